//! One table geometry everywhere: left-aligned, two spaces between columns, no borders, no wrapping.

use comfy_table::{ContentArrangement, Table};

use crate::ui::style::escape;

/// Renders rows below a header. Cells are untrusted: they are escaped here.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines(&table)
}

/// Renders `key  value` lines.
pub fn render_pairs(pairs: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = pairs.iter().map(|(key, value)| vec![format!("{key}:"), value.clone()]).collect();
    render(&[], &rows)
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_spaces_apart_and_cells_cannot_break_lines() {
        let text =
            render(&["NAME", "STATE"], &[vec!["a\nb".into(), "running".into()], vec!["long-name".into(), "x".into()]]);
        assert_eq!(text, "NAME       STATE\na\\nb       running\nlong-name  x\n");
    }

    #[test]
    fn pairs_line_up() {
        assert_eq!(render_pairs(&[("id", "1".into()), ("longer", "2".into())]), "id:      1\nlonger:  2\n");
    }
}
