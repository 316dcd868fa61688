//! A result on its disk: written whole or not at all, and read with its format's number first. Blocks.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{FORMAT, RunResult};

/// A thousand cells of a hundred rounds with curves; whatever is longer is no result.
const MOST_BYTES: u64 = 256 << 20;

/// Why a result could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused; once the cause that it names is gone, a second try may succeed. The old file is as it was.
    #[error("cannot write {}", path.display())]
    Write {
        /// The result's file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// There is no folder to write into: make it, or name another.
    #[error("cannot write {}: there is no folder {}", path.display(), folder.display())]
    NoFolder {
        /// The result's file.
        path: PathBuf,
        /// What it would lie in.
        folder: PathBuf,
    },
    /// The file is not there, or the system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Longer than any result.
    #[error("{} is longer than {} MiB: that is no result of podline-bench", path.display(), MOST_BYTES >> 20)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// No JSON, or none of a result.
    #[error("{} is no result of podline-bench: {at}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file, as `cells[3].rounds`.
        at: String,
        /// What is wrong there.
        problem: String,
    },
    /// A later release wrote it: read it with that release.
    #[error("{} has format {found}, this release reads up to {FORMAT}: use the release that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Writes a result to a file, in place of what is there. A crash or a full disk leaves the old content or the new one.
/// What is no plain file, as a pipe, is written to as it is.
pub fn write(result: &RunResult, path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let mut bytes = serde_json::to_vec(result).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    put(&bytes, path)
}

/// Whether there will be a place for this file: for a run that takes minutes, before it begins.
pub fn check(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    if folder.is_dir() {
        Ok(())
    } else {
        Err(FileError::NoFolder {
            path: path.to_owned(),
            folder,
        })
    }
}

/// Writes bytes to a file as [`write()`] does.
pub fn put(bytes: &[u8], path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fs::write(path, bytes).map_err(failed);
    }
    check(path)?;
    let folder = folder_of(path);
    replace(path, &folder, |file| file.write_all(bytes)).map_err(failed)
}

/// Reads what [`write()`] wrote, in this format or an older one.
pub fn read(path: &Path) -> Result<RunResult, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > MOST_BYTES {
        return Err(FileError::TooLong {
            path: path.to_owned(),
        });
    }
    parse(&bytes, path)
}

fn parse(bytes: &[u8], path: &Path) -> Result<RunResult, FileError> {
    /// The one field that every format has.
    #[derive(Deserialize)]
    struct Numbered {
        format: u32,
    }
    let Numbered { format: found } = json(bytes, path)?;
    if found > FORMAT {
        return Err(FileError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    json(bytes, path)
}

fn json<'de, T: Deserialize<'de>>(bytes: &'de [u8], path: &Path) -> Result<T, FileError> {
    let malformed = |at: String, problem: String| FileError::Malformed {
        path: path.to_owned(),
        at: if at == "." {
            "at its top".to_owned()
        } else {
            at
        },
        problem,
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| malformed(error.path().to_string(), error.inner().to_string()))?;
    json.end()
        .map_err(|error| malformed("at its end".to_owned(), error.to_string()))?;
    Ok(value)
}

/// Lets `fill` make a new file beside `path`, and puts it in its place once it is safe on the disk.
fn replace(
    path: &Path,
    folder: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".podline-bench-")
        // As the caller's umask lets it be, as for any other file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    fill(new.as_file_mut())?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    // A rename is safe once its folder is.
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests;
