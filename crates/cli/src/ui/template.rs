//! The subset of Go's templates that `--format` is used with: `{{.Field}}`, `{{.A.B}}`, `{{json .A}}`, and text between.

use crate::error::Failure;
use serde_json::Value;

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// `table` before it: the rows are aligned under a header of the fields' names.
    table: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { path: Vec<String>, form: Form },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(format!("invalid template {text:?}: {why}"));
        let (table, mut rest) = match text.strip_prefix("table") {
            Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
            _ => (false, text),
        };
        let unescaped = rest.replace("\\t", "\t").replace("\\n", "\n");
        // In a table, podman takes a space between fields for the end of a column.
        let unescaped = if table { unescaped.replace("}} {{", "}}\t{{") } else { unescaped };
        rest = &unescaped;
        let mut pieces = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (action, tail) = after.split_once("}}").ok_or_else(|| wrong("a {{ has no }}"))?;
            pieces.push(
                action_piece(action)
                    .ok_or_else(|| wrong("only {{.Field}}, {{.A.B}} and {{json .A}} are known here"))?,
            );
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces, table })
    }

    /// Renders every row, a table with its header; one that lacks a field fails with the fields that there are.
    pub(crate) fn render(&self, rows: &[Value]) -> Result<String, Failure> {
        if !self.table {
            return self.render_body(rows);
        }
        let header: String = self.pieces.iter().map(Piece::title).collect();
        Ok(super::table::render(&header.split('\t').collect::<Vec<_>>(), &self.cells(rows)?))
    }

    /// The same without a header.
    pub(crate) fn render_body(&self, rows: &[Value]) -> Result<String, Failure> {
        if self.table {
            return Ok(super::table::body(&self.cells(rows)?));
        }
        Ok(rows.iter().map(|row| self.row(row)).collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    fn cells(&self, rows: &[Value]) -> Result<Vec<Vec<String>>, Failure> {
        let cells = |row| Ok(self.row(row)?.split('\t').map(str::to_owned).collect());
        rows.iter().map(cells).collect()
    }

    fn row(&self, row: &Value) -> Result<String, Failure> {
        self.pieces.iter().map(|piece| piece.render(row)).collect()
    }
}

fn action_piece(action: &str) -> Option<Piece> {
    let words: Vec<&str> = action.split_whitespace().collect();
    let (path, form) = match words.as_slice() {
        [path] => (path, Form::Text),
        ["json", path] => (path, Form::Json),
        _ => return None,
    };
    let path: Vec<String> =
        path.strip_prefix('.')?.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let plain = |part: &String| part.chars().all(|c| c.is_alphanumeric() || c == '_');
    path.iter().all(plain).then_some(Piece::Field { path, form })
}

impl Piece {
    fn title(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Field { path, .. } => path.last().map_or_else(String::new, |name| name.to_uppercase()),
        }
    }

    fn render(&self, row: &Value) -> Result<String, Failure> {
        let (path, form) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Field { path, form } => (path, form),
        };
        let mut value = row;
        for name in path {
            value = value.get(name).ok_or_else(|| unknown(name, value))?;
        }
        Ok(match (form, value) {
            (Form::Json, value) => value.to_string(),
            (Form::Text, value) => plain(value),
        })
    }
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

fn unknown(name: &str, value: &Value) -> Failure {
    let fields: Vec<&str> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    Failure::new(format!("there is no field {name:?}; there are: {}", fields.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> Result<String, String> {
        let row = json!({ "Names": "web", "State": { "Pid": 7, "Ports": ["a", "b"] } });
        Template::parse(template).and_then(|template| template.render(&[row])).map_err(|failure| failure.text())
    }

    #[test]
    fn fields_nested_fields_and_json_are_rendered() {
        assert_eq!(render("{{.Names}}").unwrap(), "web");
        assert_eq!(render("{{ .Names }}\\t{{.State.Pid}}!").unwrap(), "web\t7!");
        assert_eq!(render("{{.State.Ports}}").unwrap(), "[a b]");
        assert_eq!(render("{{.State}}").unwrap(), "map[Pid:7 Ports:[a b]]");
        assert_eq!(render("{{json .State.Ports}}").unwrap(), r#"["a","b"]"#);
        for table in ["table {{.Names}}\\t{{.State.Pid}}", "table {{.Names}} {{.State.Pid}}"] {
            assert_eq!(render(table).unwrap(), "NAMES       PID\nweb         7");
        }
    }

    #[test]
    fn what_is_no_template_or_no_field_is_refused() {
        for template in ["{{.Names", "{{Names}}", "{{range .X}}", "{{.Nope}}", "{{.Names.X}}"] {
            assert!(render(template).is_err(), "{template}");
        }
        assert!(render("{{.Nope}}").unwrap_err().contains("Names State"));
    }
}
