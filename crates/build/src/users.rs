//! `--chown` and `--chmod`: owners by the target's own `/etc/passwd` and `/etc/group`, modes in octal.

use std::path::PathBuf;

use windlass_sandbox::Host;

use crate::error::Fault;
use crate::view::Owner;

/// `user`, `user:group`, by name or number. A number alone is also the group; a name alone means its own group.
pub(crate) fn owner(lowers: &[PathBuf], text: &str) -> Result<Owner, Fault> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    if let (Ok(uid), None) = (user.parse::<u32>(), group) {
        return Ok(Owner { uid, gid: uid });
    }
    if let (Ok(uid), Some(Ok(gid))) = (user.parse::<u32>(), group.map(str::parse::<u32>)) {
        return Ok(Owner { uid, gid });
    }
    let found = Host::resolve_user(lowers, text).map_err(|e| Fault::said(format!("--chown={text}: {e}")))?;
    Ok(Owner { uid: found.uid, gid: found.gid })
}

/// `755`, `0644`, `4755`.
pub(crate) fn mode(text: &str) -> Result<u32, Fault> {
    let octal = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777).ok_or_else(|| {
        Fault::said(format!("--chmod={text} is not supported: write the mode as an octal number, as in --chmod=755"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_modes() {
        let pair = |text: &str| owner(&[], text).map(|o| (o.uid, o.gid));
        assert_eq!(pair("1000").unwrap(), (1000, 1000));
        assert_eq!(pair("1:2").unwrap(), (1, 2));
        assert!(pair("nobody").unwrap_err().to_string().contains("no such user"));
        assert_eq!(mode("4755").unwrap(), 0o4755);
        assert!(mode("u+x").is_err() && mode("").is_err() && mode("+7").is_err() && mode("888").is_err());
    }
}
