//! One reading of one file: where it lies, what day it is, and what was found so far.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;

use super::problem::{Place, Problem};

/// Collects what is wrong while the checks go on, so that all of it can be told at once.
pub(super) struct Review {
    file: Arc<str>,
    folder: PathBuf,
    /// Today, for what has expired.
    pub today: Date,
    /// Lines that are no TOML: what else is said of them would only confuse.
    broken: Vec<usize>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Review {
    pub fn new(file: &Path, today: Date) -> Self {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let file = file.display().to_string().into();
        Self { file, folder, today, broken: Vec::new(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// A relative path starts at the folder of the configuration file.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// Something has to be changed before this configuration can be used.
    pub fn problem(&mut self, place: &Place, key: impl Into<String>, text: impl Into<String>) {
        let problem = self.finding(place, key.into(), text.into());
        self.problems.push(problem);
    }

    /// Something is not there. Not said while a line cannot be read: it may well stand in that line.
    pub fn missing(&mut self, place: &Place, key: impl Into<String>, text: impl Into<String>) {
        if self.broken.is_empty() {
            self.problem(place, key, text);
        }
    }

    /// Something that can be used but should be looked at.
    pub fn warning(&mut self, place: &Place, key: impl Into<String>, text: impl Into<String>) {
        let warning = self.finding(place, key.into(), text.into());
        self.warnings.push(warning);
    }

    /// A line that is no TOML. Only the first error of a line is of use.
    pub fn syntax(&mut self, line: usize, text: String) {
        if !self.broken.contains(&line) {
            self.broken.push(line);
            self.problem(&Place::Line(line), "", text);
        }
    }

    /// Problems and warnings, the echoes of broken lines left out.
    pub fn into_findings(self) -> (Vec<Problem>, Vec<Problem>) {
        let Self { broken, mut problems, mut warnings, .. } = self;
        problems.retain(|problem| match problem.place {
            Place::Line(line) => problem.key.is_empty() || !broken.contains(&line),
            _ => true,
        });
        warnings.sort_by(|a, b| a.place.cmp(&b.place));
        (problems, warnings)
    }

    fn finding(&self, place: &Place, key: String, text: String) -> Problem {
        Problem { file: Arc::clone(&self.file), place: place.clone(), key, text }
    }
}
