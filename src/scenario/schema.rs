//! The JSON Schema of scenario files, for editors.
//!
//! It is generated from the types, so it can't differ from the loader. The page's sentences are added, so that editors
//! complete their ids and show their text.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Value, json};

use super::Scenario;
use crate::page::Page;

/// The schema (JSON Schema, draft 2020-12).
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<Scenario>().to_value();
    schema["title"] = "kchaos scenario".into();
    without_null(&mut schema);
    schema
}

/// Removes `null`. To the generator, a field that may be absent is one that may be `null`; the loader accepts no
/// `null`.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(map) => {
            map.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(either)) = map.get_mut("anyOf") {
                either.retain(|s| s["type"] != "null");
                if let [Value::Object(only)] = either.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            if map.get("default") == Some(&Value::Null) {
                map.remove("default");
            }
        }
        _ => {}
    }
}

/// Schema of a claim's `sentence`.
pub(super) fn sentence_ids(_: &mut SchemaGenerator) -> Schema {
    let ids: Vec<Value> = Page::get()
        .sentences()
        .iter()
        .map(|s| {
            let says = s.of.as_ref().map_or_else(|| s.says.clone(), |of| format!("{} ({of})", s.says));
            json!({ "const": s.id, "description": says })
        })
        .collect();
    json_schema!({ "oneOf": ids })
}

/// Schema of `unchanged`, which can only be `true`.
pub(super) fn only_true(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": true })
}

/// Schema of the names of a claim's variants: a non-empty list without repetition.
pub(super) fn some_names(generator: &mut SchemaGenerator) -> Schema {
    let name = generator.subschema_for::<super::Name>();
    json_schema!({ "type": "array", "items": name, "minItems": 1, "uniqueItems": true })
}
