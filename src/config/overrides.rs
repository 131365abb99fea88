//! `XOAUTH2_RELAY__ADMIN__ADDRESS=…`: environment variables that take the place of scalars outside lists.

use super::Environment;
use super::document::{self, Node, Table, Value};
use super::keys::{self, Form, Key, ROOT, Scope};
use super::problem::Place;
use super::review::Review;

/// With two underscores, so that `XOAUTH2_RELAY_CONFIG` is none of them.
const PREFIX: &str = "XOAUTH2_RELAY__";

/// Puts the values of the variables into the tree, in place of what the file says.
pub(super) fn apply(environment: &Environment, root: &mut Table, review: &mut Review) {
    for (name, value) in environment.iter() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let place = Place::Variable(name.to_owned());
        let Some(value) = value.to_str() else {
            review.problem(&place, "", "is not UTF-8");
            continue;
        };
        let path = name[PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<&str> = path.split("__").collect();
        if let Err(text) = set(&path, value, &place, root) {
            review.problem(&place, "", text);
        }
    }
}

fn set(path: &[&str], value: &str, place: &Place, root: &mut Table) -> Result<(), String> {
    match *path {
        [name] => {
            let key = scalar(name, &ROOT)?;
            insert(root, key, value, place);
        }
        ["key", source @ ("file" | "env" | "credential")] => {
            let inner = Node { place: place.clone(), value: Value::Text(value.to_owned()) };
            let table = Table::from([(source.to_owned(), inner)]);
            root.insert("key".to_owned(), Node { place: place.clone(), value: Value::Table(table) });
        }
        [heading, .., name] => {
            let scope = match ROOT.key(heading) {
                Some(key) if key.form == Form::Tables => return Err(in_a_list(heading)),
                Some(key) if key.form == Form::Table => keys::below(heading),
                _ => None,
            };
            let (Some(scope), 2) = (scope, path.len()) else { return Err(unknown(path)) };
            let key = scalar(name, scope)?;
            let table = root
                .entry(heading.to_owned())
                .or_insert_with(|| Node { place: place.clone(), value: Value::Table(Table::new()) });
            // Something else than a table is reported when the section is opened.
            if let Value::Table(table) = &mut table.value {
                insert(table, key, value, place);
            }
        }
        [] => return Err(unknown(path)),
    }
    Ok(())
}

/// The key of this name, if a variable may set it.
fn scalar(name: &str, scope: &Scope) -> Result<&'static Key, String> {
    let Some(key) = scope.key(name) else {
        let near = keys::nearest(name, scope.keys.iter().map(|key| key.name));
        return Err(match near {
            Some(near) => {
                format!("names no key of {}; did you mean {}?", scope.place_name(), near.to_ascii_uppercase())
            }
            None => format!("names no key of {}: remove it or correct its name", scope.place_name()),
        });
    };
    match key.form {
        Form::Tables => Err(in_a_list(name)),
        Form::List => Err(format!("{name} is a list, and variables only set single values: set it in the file")),
        Form::Table => Err(format!(
            "[{name}] has keys of its own: name one of them, as in {PREFIX}{}__…",
            name.to_ascii_uppercase()
        )),
        _ => Ok(key),
    }
}

fn in_a_list(heading: &str) -> String {
    format!("there can be several [[{heading}]], and a variable could not say which one: set it in the file")
}

fn unknown(path: &[&str]) -> String {
    format!("names no key: there is no {}", if path.is_empty() { "name" } else { path[0] })
}

/// A value in TOML's syntax is taken as such, anything else as a text.
fn insert(table: &mut Table, key: &Key, text: &str, place: &Place) {
    let parsed = document::parse_value(text.trim(), place);
    let value = match (key.form, parsed) {
        // `HOSTNAME=2027` is meant as a name.
        (Form::Text, Some(Value::Text(text))) => Value::Text(text),
        (Form::Secret, Some(value @ (Value::Text(_) | Value::Table(_)))) => value,
        (Form::Text | Form::Secret, _) | (_, None) => Value::Text(text.to_owned()),
        (_, Some(value)) => value,
    };
    table.insert(key.name.to_owned(), Node { place: place.clone(), value });
}
