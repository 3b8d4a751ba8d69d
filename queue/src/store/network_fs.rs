//! Whether a directory lies on a network file system.
//!
//! Owns the reading of the kernel's mount table. Where there is none (not Linux), every directory
//! counts as local.

use std::path::Path;

/// File systems on which SQLite's locks or its shared memory do not hold between machines.
const NETWORK_KINDS: [&str; 16] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
];

/// The kind of the network file system that holds `path`, which exists; `None` for a local one.
pub fn network_kind(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = std::fs::canonicalize(path).ok()?;
    let kind = kind_of(&table, &path)?;
    NETWORK_KINDS.contains(&kind).then(|| kind.to_owned())
}

/// The file system of the longest mount point over `path`; of equal ones the last, which hides
/// the others.
fn kind_of<'a>(table: &'a str, path: &Path) -> Option<&'a str> {
    table
        .lines()
        .filter_map(|line| {
            let (mount, device) = line.split_once(" - ")?;
            let point = unescape(mount.split(' ').nth(4)?);
            let kind = device.split(' ').next()?;
            path.starts_with(&point).then_some((point.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

/// The table writes blanks in paths as octal.
fn unescape(point: &str) -> String {
    point
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 21 0:40 / /home rw - nfs4 server:/home rw,vers=4.2
41 40 8:2 / /home/local\\040disk rw - xfs /dev/sdb rw
";

    #[test]
    fn the_longest_mount_point_decides() {
        let kind = |path: &str| kind_of(TABLE, Path::new(path)).unwrap();
        assert_eq!(kind("/var/lib"), "ext4");
        assert_eq!(kind("/home/ann/.local"), "nfs4");
        assert_eq!(kind("/home/local disk/x"), "xfs");
        assert_eq!(kind("/homework"), "ext4");
    }

    #[test]
    fn a_temporary_directory_is_local() {
        assert_eq!(network_kind(&std::env::temp_dir()), None);
    }
}
