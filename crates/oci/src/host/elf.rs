//! What a dynamic program needs to start, found as the dynamic loader finds it, without running anything.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

use crate::error::Doing;
use crate::{Error, Result};

pub(super) struct Libraries {
    /// `/etc/ld.so.cache`: name to paths, best first.
    cache: HashMap<String, Vec<PathBuf>>,
    /// A library was found only through the cache, so the image needs the cache too.
    pub(super) used_cache: bool,
}

/// Where the loader looks without being told. With the Debian multiarch directory of the program's machine.
const DEFAULT_DIRS: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

struct Needs {
    machine: u16,
    is_64: bool,
    names: Vec<String>,
    /// Directories named in the file, `$ORIGIN` replaced.
    dirs: Vec<PathBuf>,
    interpreter: Option<PathBuf>,
}

impl Libraries {
    pub(super) fn read() -> Self {
        let cache = fs::read("/etc/ld.so.cache").ok().map(|bytes| parse_cache(&bytes)).unwrap_or_default();
        Self { cache, used_cache: false }
    }

    /// The interpreter and the libraries that this file names itself (not those that they name).
    pub(super) fn needed_by(&mut self, path: &Path) -> Result<Vec<PathBuf>> {
        let Some(needs) = read(path)? else { return Ok(Vec::new()) };
        let mut found: Vec<PathBuf> = needs.interpreter.clone().into_iter().collect();
        for name in &needs.names {
            let library = self.find(name, &needs).ok_or_else(|| Error::Host {
                what: format!("program {}", path.display()),
                detail: format!("the shared library `{name}` that it needs is not on this machine"),
            })?;
            found.push(library);
        }
        Ok(found)
    }

    fn find(&mut self, name: &str, needs: &Needs) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.exists());
        }
        let fits = |path: &PathBuf| {
            read(path).ok().flatten().is_some_and(|it| it.machine == needs.machine && it.is_64 == needs.is_64)
        };
        if let Some(path) = needs.dirs.iter().map(|dir| dir.join(name)).find(fits) {
            return Some(path);
        }
        let defaults = default_dirs(needs.machine);
        let cached = self.cache.get(name).into_iter().flatten().find(|path| fits(path)).cloned();
        if let Some(path) = cached {
            let is_default = path.parent().is_some_and(|dir| defaults.iter().any(|default| default == dir));
            // The same file under a default directory needs no cache.
            if !is_default {
                self.used_cache = true;
            }
            return Some(path);
        }
        defaults.iter().map(|dir| dir.join(name)).find(fits)
    }
}

fn default_dirs(machine: u16) -> Vec<PathBuf> {
    use goblin::elf::header;
    let triple = match machine {
        header::EM_X86_64 => "x86_64-linux-gnu",
        header::EM_AARCH64 => "aarch64-linux-gnu",
        header::EM_386 => "i386-linux-gnu",
        header::EM_ARM => "arm-linux-gnueabihf",
        header::EM_RISCV => "riscv64-linux-gnu",
        header::EM_PPC64 => "powerpc64le-linux-gnu",
        header::EM_S390 => "s390x-linux-gnu",
        _ => "",
    };
    let multiarch = ["/lib", "/usr/lib"].iter().filter(|_| !triple.is_empty()).map(|dir| Path::new(dir).join(triple));
    multiarch.chain(DEFAULT_DIRS.iter().map(PathBuf::from)).collect()
}

/// What an ELF file names; `None` for other files and for those of unknown machines.
fn read(path: &Path) -> Result<Option<Needs>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(path).doing("reading", path)?;
    let Ok(elf) = Elf::parse(&bytes) else { return Ok(None) };
    let origin = path.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned)).unwrap_or_default();
    // A RUNPATH makes the loader ignore an RPATH.
    let listed = if elf.runpaths.is_empty() { &elf.rpaths } else { &elf.runpaths };
    let dirs = listed
        .iter()
        .flat_map(|list| list.split(':'))
        .filter(|dir| !dir.is_empty())
        .map(|dir| {
            let origin = origin.to_string_lossy();
            PathBuf::from(dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
        })
        .collect();
    Ok(Some(Needs {
        machine: elf.header.e_machine,
        is_64: elf.is_64,
        names: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
        dirs,
        interpreter: elf.interpreter.map(PathBuf::from),
    }))
}

/// glibc's cache in its present format, alone or behind the old one.
fn parse_cache(bytes: &[u8]) -> HashMap<String, Vec<PathBuf>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let Some(start) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else { return found };
    let table = &bytes[start..];
    let word = |at: usize| {
        table
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes)
            .and_then(|n| usize::try_from(n).ok())
    };
    let text = |at: usize| {
        let rest = table.get(at..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&rest[..end]).ok().map(str::to_owned)
    };
    let count = word(20).unwrap_or_default().min(1 << 20);
    for index in 0..count {
        // Header of 48 bytes; entries of flags, key, value, OS version (4 bytes each) and hardware needs (8).
        let at = 48 + index * 24;
        let (Some(key), Some(value)) = (word(at + 4).and_then(text), word(at + 8).and_then(text)) else { continue };
        // Variants for newer processors would not run elsewhere; the plain one is listed too.
        if !value.contains("/glibc-hwcaps/") {
            found.entry(key).or_default().push(PathBuf::from(value));
        }
    }
    found
}
