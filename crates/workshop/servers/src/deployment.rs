//! An instance and the way in which its server runs.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::instance::Instance;
use crate::process::Launch;
use crate::runtime::Runtime;

#[derive(Clone)]
pub(crate) struct Deployment {
    pub(crate) instance: Instance,
    pub(crate) runtime: &'static dyn Runtime,
}

impl Deployment {
    /// Returns a path of the instance, as its server sees it.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Returns any path, as the server sees it.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.instance.directory())
            .map_or_else(|_| path.to_owned(), |below| self.directory().join(below))
    }

    /// The instance's directory, as its server sees it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.runtime.directory(&self.instance)
    }

    /// The directory of the software's programs, or its jars, as the server sees it.
    pub(crate) fn home(&self) -> Result<PathBuf> {
        self.runtime.home(&self.instance)
    }

    /// Runs a program that prepares something to its end. Its output is shown only if it fails.
    pub(crate) fn run(&self, tool: Launch) -> Result<()> {
        self.runtime.run(&self.instance, tool)
    }

    /// Fills a template: `@DIRECTORY@` as the server sees it, the address `@LISTEN@`, and the ports by name, `@MAIN@`.
    pub(crate) fn fill(&self, template: &str) -> String {
        let (instance, ports) = (&self.instance, &self.instance.ports);
        [
            ("@DIRECTORY@", self.runtime.directory(instance).display().to_string()),
            ("@LISTEN@", self.runtime.listen().to_owned()),
            ("@NODE@", instance.node.to_string()),
            ("@MAIN@", ports.main.to_string()),
            ("@HTTP@", ports.http.to_string()),
            ("@TLS@", ports.tls.to_string()),
            ("@LOGIN@", ports.login.to_string()),
            ("@INNER@", ports.inner.to_string()),
            ("@PROXIED@", ports.proxied.to_string()),
            ("@ADVERTISED@", ports.advertised.to_string()),
        ]
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Ports;
    use crate::kind::Kind;
    use crate::native::Native;

    #[test]
    fn a_template_is_filled_with_the_directory_and_the_ports() {
        let instance = Instance::new(Kind::Nats, "nats-template".to_owned(), Ports::from(100));
        let deployment = Deployment { instance: instance.clone(), runtime: &Native };
        let filled = deployment.fill("@DIRECTORY@/data @MAIN@ @INNER@ @MAIN@");
        assert_eq!(filled, format!("{}/data 100 106 100", instance.directory().display()));
    }
}
