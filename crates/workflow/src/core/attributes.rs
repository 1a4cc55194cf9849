//! Attributes that the code gives its instance for those who look for it.

use super::State;
use crate::{Attribute, EventKind};

impl State {
    /// Says something that was not said before.
    pub(crate) fn set_attribute(&mut self, name: String, value: Option<Attribute>) {
        if self.attributes.get(&name) == Some(&value) {
            return;
        }
        self.attributes.insert(name.clone(), value.clone());
        let seq = self.claim_done();
        self.issue(EventKind::AttributeSet { seq, name, value });
    }
}
