//! Some settings of one listener or rule.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::anchor::Anchor;
use super::field::{Field, Setting, row};

/// Some settings of one listener or rule. What is not said is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment(BTreeMap<Field, Setting>);

impl Fragment {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of a field.
    pub fn get(&self, field: Field) -> Option<&Setting> {
        self.0.get(&field)
    }

    /// Whether something is said of a field.
    pub fn has(&self, field: Field) -> bool {
        self.0.contains_key(&field)
    }

    /// What a field that is true or false says.
    pub fn is(&self, field: Field) -> Option<bool> {
        match self.get(field)? {
            Setting::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// What a field that holds a number says.
    pub fn number(&self, field: Field) -> Option<u16> {
        match self.get(field)? {
            Setting::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// What a field that holds a text says.
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.get(field)? {
            Setting::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Says something.
    pub fn set(&mut self, field: Field, setting: Setting) {
        self.0.insert(field, setting);
    }

    /// Says nothing of these fields any more.
    pub fn unset(&mut self, fields: &[Field]) {
        for field in fields {
            self.0.remove(field);
        }
    }

    /// What another one says comes over what this one does.
    pub fn lay(&mut self, over: &Self) {
        let said = over.0.iter();
        self.0
            .extend(said.map(|(field, setting)| (*field, setting.clone())));
    }

    /// All that is said, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &Setting)> {
        self.0.iter().map(|(field, setting)| (*field, setting))
    }

    /// By the paths of the fields.
    pub fn to_json(&self) -> Value {
        let told = self.iter().map(|(field, setting)| {
            let path = row(field).path.to_owned();
            (path, setting.to_json())
        });
        Value::Object(told.collect::<Map<_, _>>())
    }

    /// From what [`Fragment::to_json`] made of one of this anchor; what cannot be read is left out.
    pub fn from_json(anchor: &Anchor, json: &Value) -> Self {
        let said = json.as_object().into_iter().flatten();
        let rows = said.filter_map(|(path, value)| {
            let row = super::field::find(anchor.into(), path)?;
            Some((row.field, row.read(anchor, value).ok()?))
        });
        Self(rows.collect())
    }
}
