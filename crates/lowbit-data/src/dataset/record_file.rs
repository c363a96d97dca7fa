//! Bytes that are read at an offset from any thread: a file, or memory. Knows nothing of what they mean.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// An open file or its contents; `path` names it in errors.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(SharedFile),
    Memory(Vec<u8>),
}

/// Records up to this size are read to the stack.
const STACK_BYTES: usize = 4096;

impl RecordFile {
    pub(crate) fn open(path: &Path) -> Result<RecordFile, DataError> {
        let file = File::open(path).map_err(DataError::io(path, "open"))?;
        Ok(RecordFile { path: path.to_path_buf(), bytes: Bytes::File(SharedFile::new(file)) })
    }

    pub(crate) fn in_memory(path: &Path, bytes: Vec<u8>) -> RecordFile {
        RecordFile { path: path.to_path_buf(), bytes: Bytes::Memory(bytes) }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) fn len(&self) -> Result<u64, DataError> {
        match &self.bytes {
            Bytes::File(_) => {
                let metadata = std::fs::metadata(&self.path);
                Ok(metadata.map_err(DataError::io(&self.path, "read"))?.len())
            }
            Bytes::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    pub(crate) fn read_exact_at(&self, out: &mut [u8], offset: u64) -> Result<(), DataError> {
        let read = match &self.bytes {
            Bytes::File(file) => file.read_exact_at(out, offset),
            Bytes::Memory(bytes) => {
                record(bytes, offset, out.len()).map(|record| out.copy_from_slice(record))
            }
        };
        read.map_err(DataError::io(&self.path, "read"))
    }

    /// Hands the `len` bytes at `offset` to `visit`, without allocating for small records.
    pub(crate) fn with_record(
        &self,
        offset: u64,
        len: usize,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let (mut small, mut large);
        let buffer = match &self.bytes {
            Bytes::Memory(bytes) => {
                let record = record(bytes, offset, len);
                return visit(record.map_err(DataError::io(&self.path, "read"))?);
            }
            Bytes::File(_) if len <= STACK_BYTES => {
                small = [0; STACK_BYTES];
                &mut small[..len]
            }
            Bytes::File(_) => {
                large = vec![0; len];
                &mut large[..]
            }
        };
        self.read_exact_at(buffer, offset)?;
        visit(buffer)
    }
}

fn record(bytes: &[u8], offset: u64, len: usize) -> std::io::Result<&[u8]> {
    let first = usize::try_from(offset).ok();
    let record = first.and_then(|at| bytes.get(at..at.checked_add(len)?));
    record.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(unix)]
#[derive(Debug)]
struct SharedFile(File);

#[cfg(unix)]
impl SharedFile {
    fn new(file: File) -> SharedFile {
        SharedFile(file)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
struct SharedFile(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl SharedFile {
    fn new(file: File) -> SharedFile {
        SharedFile(std::sync::Mutex::new(file))
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(out)
    }
}
