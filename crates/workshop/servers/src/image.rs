//! The images that vendors publish for Docker.

use crate::instance::Ports;

/// A vendor's image.
pub(crate) struct Image {
    /// The name as in `docker pull`, with the version as its tag, which may have a suffix after a hyphen.
    pub(crate) name: String,
    /// The path of [`Deployment::home`](crate::deployment::Deployment::home) in the image.
    pub(crate) home: &'static str,
    /// The ports of an instance that clients use.
    pub(crate) ports: fn(&Ports) -> Vec<u16>,
}

impl Image {
    pub(crate) fn version(&self) -> Option<&str> {
        self.name.rsplit_once(':')?.1.split('-').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Instance;
    use crate::kind::Kind;

    #[test]
    fn every_image_is_pinned_to_a_version() {
        for kind in Kind::all() {
            let image = kind.software().image(&Instance::new(kind, format!("{kind}-image"), Ports::standing(kind)));
            let version = image.version().unwrap_or_default();
            assert!(
                version.contains('.') && version.starts_with(|first: char| first.is_ascii_digit()),
                "{}",
                image.name
            );
        }
    }
}
