//! `platter schema`: what a configuration may say, for programs and for people.

use crate::cli::SchemaArgs;
use crate::exit::Failure;
use crate::output;
use resource::{FieldDoc, KindDoc, TypeDoc};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Prints the JSON Schema, or the reference.
pub(crate) fn run(args: &SchemaArgs) -> Result<ExitCode, Failure> {
    let resolver = disk_resolver::resolver();
    let text = if args.markdown {
        markdown(&resolver.documentation())
    } else {
        let schema = disk_resolver::schema(&resolver);
        serde_json::to_string_pretty(&schema).map_err(Failure::running)? + "\n"
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The reference as a page's body.
fn markdown(kinds: &[KindDoc]) -> String {
    let mut page = String::new();
    for kind in kinds {
        page += &section(kind);
    }
    page
}

fn section(kind: &KindDoc) -> String {
    let mut text = format!("## Types of {}\n\n", kind.name);
    text += "| type | what it is |\n| --- | --- |\n";
    for one in &kind.types {
        let (id, summary) = (one.id, cell(&one.summary));
        line(
            &mut text,
            format_args!("| [`{id}`](#{}-{id}) | {summary} |", kind.name),
        );
    }
    text.push('\n');
    for stand_in in &kind.stand_ins {
        let name = kind.name;
        line(
            &mut text,
            format_args!("A {stand_in} may stand where a {name} is expected.\n"),
        );
    }
    if !kind.reserved.is_empty() {
        line(
            &mut text,
            format_args!("Any {} may have these keys besides its own:\n", kind.name),
        );
        text += &table(&kind.reserved);
    }
    for one in &kind.types {
        text += &type_section(kind.name, one);
    }
    text
}

fn type_section(kind: &str, one: &TypeDoc) -> String {
    let mut text = format!("### {kind} `{}`\n\n{}\n\n", one.id, one.description);
    if !one.fields.is_empty() {
        text += &table(&one.fields);
    }
    text
}

fn table(fields: &[FieldDoc]) -> String {
    let mut text = String::from("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for field in fields {
        let default = match (&field.default, field.is_required) {
            (_, true) => "required".to_owned(),
            (None, false) => String::new(),
            (Some(value), false) => format!("`{value}`"),
        };
        let (name, value_type) = (&field.name, cell(&field.value_type));
        let meaning = cell(&field.description);
        line(
            &mut text,
            format_args!("| `{name}` | {value_type} | {default} | {meaning} |"),
        );
    }
    text.push('\n');
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a string succeeds");
}

/// Text for one cell of a table.
fn cell(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.replace('|', r"\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_type_and_key() {
        let documentation = disk_resolver::resolver().documentation();
        let page = markdown(&documentation);
        for kind in &documentation {
            for one in &kind.types {
                assert!(page.contains(&format!("### {} `{}`\n", kind.name, one.id)));
                for field in &one.fields {
                    assert!(
                        page.contains(&format!("\n| `{}` |", field.name)),
                        "{}",
                        field.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_cell_stays_a_cell() {
        assert_eq!(cell("a |\n  b"), r"a \| b");
    }
}
