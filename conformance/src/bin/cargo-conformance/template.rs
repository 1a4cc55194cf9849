/// The harnesses that are written. They are examples of this crate, and so compiled with it.
const ADDRESS: &str = include_str!("../../../examples/harness.rs");
const CONTAINER: &str = include_str!("../../../examples/container.rs");
/// The port in both of them.
const PORT: u16 = 4222;

/// A harness for a broker.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    image: Option<String>,
    port: u16,
}

impl Template {
    /// # Errors
    /// The argument that cannot be used.
    pub(crate) fn new(name: String, image: Option<String>, port: Option<u16>) -> Result<Self, String> {
        let is_plain = |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric());
        if name.is_empty() || !is_plain(&name) {
            return Err(format!("a broker's name has letters and digits, and {name:?} has others"));
        }
        if let Some(image) = &image
            && image.contains(['"', '\\', ' ', '\n'])
        {
            return Err(format!("{image:?} is not the name of an image"));
        }
        if image.is_none() && port.is_some() {
            return Err("--port is the port in a container; it needs --image".to_owned());
        }
        Ok(Self { name, image, port: port.unwrap_or(PORT) })
    }

    pub(crate) fn in_container(&self) -> bool {
        self.image.is_some()
    }

    /// The harness: the example, with the names of this broker.
    pub(crate) fn text(&self) -> String {
        let named = |text: &str| {
            let comment = text.replacen("suite on mine", &format!("suite on {}", self.name), 1);
            comment.replacen("        \"mine\"\n", &format!("        \"{}\"\n", self.name), 1)
        };
        let Some(image) = &self.image else { return named(ADDRESS) };
        // A colon before a slash is that of a registry's port.
        let (image, tag) = match image.rsplit_once(':') {
            Some((image, tag)) if !tag.contains('/') => (image, tag),
            _ => (image.as_str(), "latest"),
        };
        named(CONTAINER).replacen("(\"mine\", \"latest\")", &format!("({image:?}, {tag:?})"), 1).replacen(
            &PORT.to_string(),
            &self.port.to_string(),
            1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, image: Option<&str>, port: Option<u16>) -> String {
        Template::new(name.to_owned(), image.map(str::to_owned), port).expect("good arguments").text()
    }

    /// The examples are compiled. So everything compiles that differs from them in names only.
    #[test]
    fn a_written_harness_is_an_example_with_other_names() {
        assert_eq!(template("mine", None, None), ADDRESS);
        assert_eq!(template("mine", Some("mine"), None), CONTAINER);
        let differing = |one: &str, other: &str| {
            assert_eq!(one.lines().count(), other.lines().count());
            one.lines().zip(other.lines()).filter(|(one, other)| one != other).map(|(one, _)| one.to_owned()).collect()
        };
        let found: Vec<String> = differing(&template("redis", None, None), ADDRESS);
        assert_eq!(
            found,
            ["//! The conformance suite on redis: `cargo test --test conformance`.", "        \"redis\""]
        );
        let contained = template("redis", Some("host:5000/redis:7.2"), Some(6379));
        let found: Vec<String> = differing(&contained, CONTAINER);
        assert_eq!(
            found[1..],
            [
                "        \"redis\"".to_owned(),
                "        GenericImage::new(\"host:5000/redis\", \"7.2\").into()".to_owned(),
                "        6379".to_owned(),
            ]
        );
        assert!(template("redis", Some("host:5000/redis"), None).contains("(\"host:5000/redis\", \"latest\")"));
    }
}
