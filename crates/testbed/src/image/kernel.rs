//! The uncompressed kernel inside a bzImage.
//!
//! Source: Linux, `Documentation/arch/x86/boot.rst`. Unpacking it here saves dom0 from doing so under
//! emulation, which takes as long as the rest of the boot.

use std::path::Path;

use super::decompress;
use crate::Error;

/// Offsets in the real-mode header.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Returns the ELF kernel of a bzImage (or the file itself when it is ELF already).
///
/// # Errors
/// [`Error::BadFile`] when it is neither, or is compressed in a way that is not known here.
pub fn unpack_kernel(data: Vec<u8>, file: &Path) -> Result<Vec<u8>, Error> {
    if data.starts_with(b"\x7fELF") {
        return Ok(data);
    }
    let bad = |why: &str| Error::BadFile { file: file.display().to_string(), why: why.to_owned() };
    if data.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(bad("not a Linux kernel (bzImage)"));
    }
    let word = |at: usize| {
        let bytes = data.get(at..).and_then(|d| d.first_chunk::<4>());
        bytes.map(|b| u32::from_le_bytes(*b) as usize)
    };
    let sectors = data.get(SETUP_SECTS).copied().unwrap_or(0);
    let setup = (usize::from(if sectors == 0 { 4 } else { sectors }) + 1) * 512;
    let payload = word(PAYLOAD_OFFSET)
        .zip(word(PAYLOAD_LENGTH))
        .and_then(|(offset, length)| data.get(setup.checked_add(offset)?..)?.get(..length));
    let payload = payload.ok_or_else(|| bad("the kernel is cut off"))?;
    let kernel = decompress(payload.to_vec(), file)?;
    if kernel.starts_with(b"\x7fELF") { Ok(kernel) } else { Err(bad("the payload of the kernel is not ELF")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_made_up_kernel_is_unpacked_and_bad_ones_are_not() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"\x7fELF kernel").unwrap();
        let packed = packed.finish().unwrap();
        let mut image = vec![0; 1024];
        image[SETUP_SECTS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16u32.to_le_bytes());
        let length = u32::try_from(packed.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(&[0; 16]);
        image.extend_from_slice(&packed);
        let file = Path::new("vmlinuz");
        assert_eq!(unpack_kernel(image.clone(), file).unwrap(), b"\x7fELF kernel");
        image.truncate(image.len() - 1);
        assert!(unpack_kernel(image, file).unwrap_err().to_string().contains("cut off"));
        assert!(unpack_kernel(b"text".to_vec(), file).is_err());
    }
}
