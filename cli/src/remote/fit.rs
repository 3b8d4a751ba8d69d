//! Which machines a program can run on: read from the program itself.
//!
//! Only as much of the ELF format as that takes (System V ABI, chapters 4 and 5).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::far::Far;

/// Machines by the number in a program's header, as `uname -m` calls them.
const MACHINES: [(u16, &[&str]); 3] = [
    (62, &["x86_64", "amd64"]),
    (183, &["aarch64", "arm64"]),
    (243, &["riscv64"]),
];
/// The part of a program that names its loader.
const PT_INTERP: u32 = 3;
/// How a symbol's version begins that the C library must have.
const GLIBC: &[u8] = b"GLIBC_2.";

/// A program, and what it needs.
pub struct Program {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    needs: Needs,
}

/// What a program needs of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs {
    machine: &'static [&'static str],
    library: Library,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    /// It brings everything along.
    None,
    /// The least minor version of version 2.
    Glibc(u32),
    Musl,
}

impl Program {
    /// Reads a program.
    pub fn read(path: &Path) -> Result<Program> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let needs = Needs::of(&bytes).ok_or_else(|| {
            anyhow!(
                "{} is no program for Linux on a known processor",
                path.display()
            )
        })?;
        Ok(Program {
            path: path.to_owned(),
            bytes,
            needs,
        })
    }

    /// Why the program cannot run there, if it cannot.
    pub fn misfit(&self, far: &Far) -> Option<String> {
        self.needs.misfit(far)
    }
}

impl Needs {
    fn of(bytes: &[u8]) -> Option<Needs> {
        // 64 bits, the lowest byte first.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let number = read_u16(bytes, 18)?;
        let (_, machine) = MACHINES.iter().find(|(known, _)| *known == number)?;
        let table = usize::try_from(read_u64(bytes, 32)?).ok()?;
        let (size, count) = (
            usize::from(read_u16(bytes, 54)?),
            usize::from(read_u16(bytes, 56)?),
        );
        let mut loader = None;
        for at in 0..count {
            let entry = table.checked_add(at * size)?;
            if read_u32(bytes, entry)? == PT_INTERP {
                let begin = usize::try_from(read_u64(bytes, entry + 8)?).ok()?;
                let length = usize::try_from(read_u64(bytes, entry + 32)?).ok()?;
                loader = bytes.get(begin..begin.checked_add(length)?);
            }
        }
        let library = match loader {
            None => Library::None,
            Some(path) if path.windows(7).any(|part| part == b"ld-musl") => Library::Musl,
            Some(_) => Library::Glibc(least_glibc(bytes)),
        };
        Some(Needs { machine, library })
    }

    fn misfit(&self, far: &Far) -> Option<String> {
        if far.system != "Linux" {
            return Some(format!(
                "it runs {}, and this program is for Linux",
                far.system
            ));
        }
        if !self.machine.contains(&far.machine.as_str()) {
            return Some(format!(
                "its processor is {}, and this program is for {}",
                far.machine, self.machine[0]
            ));
        }
        match (self.library, far.glibc_minor(), far.has_musl) {
            (Library::None, _, _) | (Library::Musl, _, true) => None,
            (Library::Musl, _, false) => {
                Some("it has no musl, which this program needs".to_owned())
            }
            (Library::Glibc(least), Some(minor), _) if minor >= least => None,
            (Library::Glibc(least), Some(minor), _) => Some(format!(
                "its glibc is 2.{minor}, and this program needs 2.{least}"
            )),
            (Library::Glibc(least), None, _) => Some(format!(
                "it has no glibc, and this program needs glibc 2.{least}"
            )),
        }
    }
}

/// The newest of the C library's versions that the program names.
fn least_glibc(bytes: &[u8]) -> u32 {
    let mut least = 0;
    let mut rest = bytes;
    while let Some(at) = rest.windows(GLIBC.len()).position(|part| part == GLIBC) {
        rest = &rest[at + GLIBC.len()..];
        let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit());
        let minor = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        least = least.max(minor);
    }
    least
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program's header, its table of parts, and a loader's name.
    fn program(machine: u16, loader: Option<&str>, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        if let Some(loader) = loader {
            bytes[64] = 3;
            bytes[72] = 120;
            bytes[96] = loader.len() as u8;
            bytes.extend(loader.as_bytes());
        }
        bytes.extend(rest);
        bytes
    }

    fn far(machine: &str, libc: &str, has_musl: bool) -> Far {
        Far {
            system: "Linux".to_owned(),
            machine: machine.to_owned(),
            libc: libc.to_owned(),
            has_musl,
            ..Far::default()
        }
    }

    #[test]
    fn programs_fit_where_processor_and_library_do() {
        let glibc = program(
            62,
            Some("/lib64/ld-linux-x86-64.so.2"),
            b"GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.x",
        );
        let glibc = Needs::of(&glibc).unwrap();
        assert_eq!(glibc.library, Library::Glibc(34));
        assert_eq!(glibc.misfit(&far("x86_64", "glibc 2.36", false)), None);
        let old = glibc.misfit(&far("x86_64", "glibc 2.31", false)).unwrap();
        assert!(old.contains("2.31") && old.contains("2.34"), "{old}");
        assert!(
            glibc
                .misfit(&far("x86_64", "", true))
                .unwrap()
                .contains("no glibc")
        );
        let other = glibc.misfit(&far("aarch64", "glibc 2.36", false)).unwrap();
        assert!(other.contains("aarch64"), "{other}");
        let fixed = Needs::of(&program(183, None, b"")).unwrap();
        assert_eq!(fixed.misfit(&far("arm64", "", false)), None);
        let musl = Needs::of(&program(62, Some("/lib/ld-musl-x86_64.so.1"), b"")).unwrap();
        assert!(musl.misfit(&far("x86_64", "glibc 2.36", false)).is_some());
        assert_eq!(musl.misfit(&far("x86_64", "", true)), None);
        let mac = Far {
            system: "Darwin".to_owned(),
            ..far("arm64", "", false)
        };
        assert!(fixed.misfit(&mac).unwrap().contains("Darwin"));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert_eq!(Needs::of(b"#!/bin/sh\n"), None);
        let whole = program(62, Some("/lib64/ld-linux-x86-64.so.2"), b"");
        for length in 0..whole.len() - 1 {
            // Cut anywhere, it is none or fits nowhere by mistake; it never panics.
            let _ = Needs::of(&whole[..length]);
        }
        let own = std::env::current_exe().unwrap();
        assert!(Program::read(&own).is_ok());
    }
}
