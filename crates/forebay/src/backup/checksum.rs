//! SHA-256 checksums of files.

use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Writer that hashes its output.
pub(super) struct ChecksumWriter<W> {
    to: W,
    digest: Sha256,
}

impl<W: Write> ChecksumWriter<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            digest: Sha256::new(),
        }
    }

    /// The inner writer and the checksum in hexadecimal digits.
    pub(super) fn finish(self) -> (W, String) {
        (self.to, format!("{:x}", self.digest.finalize()))
    }
}

impl<W: Write> Write for ChecksumWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.digest.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

pub(super) fn file_checksum(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut out = ChecksumWriter::new(io::sink());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(out.finish().1);
        }
        out.write_all(buffer.get(..n).unwrap_or_default())?;
    }
}
