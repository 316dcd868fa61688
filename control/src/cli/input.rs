//! The file that `apply` and `diff` read.

use std::io::{self, Read};

use podline_api::{Document, Owner};

use super::failure::Failure;

/// A file and for whom it is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Input {
    /// Configuration file (YAML or JSON); - is the standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: String,
    /// Who owns what the file names.
    #[arg(long, default_value = "cli", value_parser = |text: &str| Owner::try_from(text))]
    pub(super) owner: Owner,
    /// The file is this owner's full state: what it owns besides is removed.
    #[arg(long)]
    pub(super) replace: bool,
}

impl Input {
    /// What to call the file.
    pub(super) fn name(&self) -> &str {
        if self.file == "-" {
            "stdin"
        } else {
            &self.file
        }
    }

    /// Reads and checks the file.
    pub(super) fn read(&self) -> Result<Document, Failure> {
        let mut text = String::new();
        let read = match self.file.as_str() {
            "-" => io::stdin().lock().read_to_string(&mut text),
            path => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
        };
        read.map_err(|source| Failure::Read {
            file: self.name().to_owned(),
            source,
        })?;
        Document::from_yaml(&text).map_err(|source| Failure::Invalid {
            file: self.name().to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(file: &str) -> Input {
        Input {
            file: file.to_owned(),
            owner: Owner::try_from("cli").unwrap(),
            replace: false,
        }
    }

    #[test]
    fn files_are_read_and_their_faults_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("podline.yaml");
        let path = path.to_str().unwrap();
        std::fs::write(path, "backendSets: [{name: web}]").unwrap();
        assert_eq!(input(path).read().unwrap().backend_sets.len(), 1);

        std::fs::write(path, "backendSets: [{name: web, polcy: ROUND_ROBIN}]").unwrap();
        let expected = format!(
            "{path}: backendSets[0].polcy: unknown field, did you mean \"policy\"? (line 1)\n\
             error: {path} is not valid: nothing was sent\n"
        );
        assert_eq!(input(path).read().unwrap_err().explain(), expected);

        std::fs::write(path, b"\xff").unwrap();
        let error = input(path).read().unwrap_err();
        assert_eq!(
            error.explain(),
            format!("error: cannot read {path}: stream did not contain valid UTF-8\n")
        );
    }
}
