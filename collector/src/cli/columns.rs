//! Which columns of a training table feed a model, and what is said of the others.

use anyhow::{Result, bail};
use driftline_collector::explain::some;
use std::fmt::Display;

/// What the command line says of a table's columns.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Columns that are no inputs.
    pub exclude: &'a [String],
    /// Column with the true class, where the command line names it.
    pub label: Option<&'a str>,
    /// Times and devices.
    pub context: [Option<&'a str>; 2],
}

impl Said<'_> {
    /// Refuses an option that names a column which the table does not have.
    pub fn check(&self, header: &[String], table: impl Display) -> Result<()> {
        let excluded = self.exclude.iter().map(|name| ("--exclude", name.as_str()));
        for (option, name) in excluded.chain(self.label.map(|name| ("--label", name))) {
            if !header.iter().any(|known| known == name) {
                bail!("{table} has no column {name}, which {option} names: its columns are {}", some(header));
            }
        }
        Ok(())
    }

    /// The model's inputs in its order: those that are `named`, else every column that nothing else is said of.
    pub fn inputs(&self, named: Option<Vec<String>>, header: &[String], label: Option<&str>) -> Vec<String> {
        named.unwrap_or_else(|| self.others(header, label).cloned().collect())
    }

    /// A note of columns that neither feed the model nor are said to be anything else.
    pub fn left_out(&self, header: &[String], inputs: &[String], label: Option<&str>) -> Option<String> {
        let left: Vec<&str> =
            self.others(header, label).filter(|name| !inputs.contains(name)).map(String::as_str).collect();
        let (are, no) = if left.len() == 1 { ("column is", "no input") } else { ("columns are", "no inputs") };
        (!left.is_empty()).then(|| format!("{} {are} {no} of the model and left out: {}.", left.len(), some(&left)))
    }

    fn others<'a>(&'a self, header: &'a [String], label: Option<&'a str>) -> impl Iterator<Item = &'a String> {
        let said = move |name: &str| self.exclude.iter().any(|excluded| excluded == name) || label == Some(name);
        header.iter().filter(move |name| !said(name) && !self.context.contains(&Some(name.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_an_input_or_spoken_of() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (header, exclude) = (names("at,a,b,c,truth,extra"), names("c"));
        let said = Said { exclude: &exclude, label: None, context: [Some("at"), None] };
        assert!(said.check(&header, "t.csv").is_ok());
        assert_eq!(said.inputs(None, &header, Some("truth")), names("a,b,extra"));
        assert_eq!(said.left_out(&header, &names("a,b,extra"), Some("truth")), None);
        let note = said.left_out(&header, &names("a,b"), Some("truth")).expect("a note");
        assert_eq!(note, "1 column is no input of the model and left out: extra.");
        let many: Vec<String> = (0..12).map(|i| format!("x{i}")).collect();
        let note = said.left_out(&many, &[], None).expect("a note");
        assert!(note.starts_with("12 columns are no inputs") && note.ends_with("x9 and 2 more."), "{note}");
        for wrong in [Said { label: Some("label"), ..said }, Said { exclude: &names("cc"), ..said }] {
            let error = wrong.check(&header, "t.csv").expect_err("no such column").to_string();
            assert!(error.contains("t.csv has no column") && error.contains("at, a, b"), "{error}");
        }
    }
}
