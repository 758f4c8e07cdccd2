//! Open files: on disk, and the memory that belongs to them.

use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle, RawHandle};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CREATE_NEW, CreateFileW, DELETE, FILE_ATTRIBUTE_DIRECTORY,
    FILE_ATTRIBUTE_NORMAL, FILE_ATTRIBUTE_REPARSE_POINT, FILE_BASIC_INFO,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, FileBasicInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    MoveFileExW, OPEN_EXISTING, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::super::map::Protection;
use super::park::{LOT_LEN, Lot};
use super::section::{self, Section, View, copy_shared};
use super::security::{self, Descriptor};
use super::{Errno, clock, owned};
use crate::access::Access;

const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// One of an object's files, or a lock file: open, with a handle of its own.
pub(crate) struct File {
    disk: Arc<OwnedHandle>,
    /// A lock file has no memory.
    part: Option<Part>,
    /// What the file on disk is, asked once: Wine tells a file's volume by its path.
    identity: OnceLock<Identity>,
}

/// The memory of one of an object's files.
pub(crate) struct Part {
    /// Which of its object's files it is.
    pub(crate) index: u64,
    pub(crate) identity: Identity,
    pub(crate) is_global: bool,
    pub(crate) len: usize,
    /// The permission bits that Unix would show.
    pub(crate) mode: u32,
    pub(crate) section: Arc<Section>,
    /// Where those wait who wait for its words; `None` when this user may not.
    pub(crate) lot: Option<Arc<Lot>>,
    pub(crate) keepers: Arc<Keepers>,
    /// All of it, mapped when it is first read.
    view: OnceLock<View>,
}

/// All sections of an object: as long as somebody has them, it lives.
pub(crate) struct Keepers {
    sections: Vec<Section>,
    /// Has a lock that says so, for those whose session does not see the sections. Dropped after
    /// them.
    _alive: Option<File>,
}

/// What tells one file from every other.
pub(crate) type Identity = (u64, u64);

/// What the system says of a file.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) len: u64,
    /// The memory that it takes up, in bytes.
    pub(crate) allocated: u64,
    /// The permission bits that Unix would show.
    pub(crate) mode: u32,
    /// Whether it has a name, as far as that can be told without looking there.
    pub(crate) is_linked: bool,
    /// When its name changed last, in nanoseconds since 1970.
    pub(crate) changed_ns: u64,
    is_owner_trusted: bool,
}

impl Facts {
    /// Whether nobody but this user and administrators may do to the file what they like.
    pub(crate) fn is_owner_trusted(&self) -> bool {
        self.is_owner_trusted
    }
}

impl File {
    /// Opens what is at the path, through no link.
    pub(crate) fn open(path: &Path, protection: Protection) -> Result<Self, Errno> {
        let access = match protection {
            Protection::ReadOnly => GENERIC_READ,
            Protection::ReadWrite => GENERIC_READ | GENERIC_WRITE,
        };
        // Also a directory, to find out that it is one.
        let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
        Self::create_file(path, access, None, OPEN_EXISTING, flags)
    }

    /// Opens what is at the path to take its name away, if that is permitted.
    pub(crate) fn open_to_remove(path: &Path) -> Result<Self, Errno> {
        let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
        Self::create_file(path, GENERIC_READ | DELETE, None, OPEN_EXISTING, flags)
    }

    /// Makes a file that is not there.
    pub(crate) fn create(path: &Path, who: &Descriptor) -> Result<Self, Errno> {
        let access = GENERIC_READ | GENERIC_WRITE;
        Self::create_file(path, access, Some(who), CREATE_NEW, FILE_ATTRIBUTE_NORMAL)
    }

    fn create_file(
        path: &Path,
        access: u32,
        who: Option<&Descriptor>,
        disposition: u32,
        flags: u32,
    ) -> Result<Self, Errno> {
        let attributes = who.map(Descriptor::attributes);
        let attributes = attributes
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: path and attributes live until the call returns; the handle is ours.
        let disk = unsafe {
            owned(CreateFileW(
                verbatim(path).as_ptr(),
                access,
                SHARE_ALL,
                attributes,
                disposition,
                flags,
                std::ptr::null_mut(),
            ))?
        };
        Ok(Self {
            disk: Arc::new(disk),
            part: None,
            identity: OnceLock::new(),
        })
    }

    /// The same file, with one of its object's parts.
    pub(crate) fn with_part(self, part: Part) -> Self {
        let part = Some(part);
        Self { part, ..self }
    }

    pub(super) fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    pub(super) fn part_index(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.index)
    }

    pub(super) fn disk(&self) -> &Arc<OwnedHandle> {
        &self.disk
    }

    pub(super) fn as_raw_handle(&self) -> RawHandle {
        self.disk.as_raw_handle()
    }

    /// Whether its memory is shared by processes of all sessions.
    pub(crate) fn is_global(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.is_global)
    }

    /// What kind of file it is.
    pub(crate) fn kind(&self) -> Result<FileKind, Errno> {
        let attributes = self.information()?.dwFileAttributes;
        Ok(if attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
            FileKind::Link
        } else if attributes & FILE_ATTRIBUTE_DIRECTORY != 0 {
            FileKind::Directory
        } else {
            FileKind::Regular
        })
    }

    fn information(&self) -> Result<BY_HANDLE_FILE_INFORMATION, Errno> {
        let mut found = BY_HANDLE_FILE_INFORMATION::default();
        // SAFETY: the handle is open; the call fills in `found`.
        match unsafe { GetFileInformationByHandle(self.as_raw_handle(), &raw mut found) } {
            0 => Err(Errno::last()),
            _ => Ok(found),
        }
    }

    pub(crate) fn facts(&self) -> Result<Facts, Errno> {
        let found = self.information()?;
        let wide = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let mut basic = FILE_BASIC_INFO::default();
        // SAFETY: the handle is open; the call fills in `basic`, of the size that is said.
        let status = unsafe {
            GetFileInformationByHandleEx(
                self.as_raw_handle(),
                FileBasicInfo,
                (&raw mut basic).cast(),
                size_of_val(&basic) as u32,
            )
        };
        if status == 0 {
            return Err(Errno::last());
        }
        let changed = u64::try_from(basic.ChangeTime).unwrap_or(0);
        let (identity, len, allocated, mode) = match &self.part {
            Some(part) => {
                let allocated = part.view()?.committed()? as u64;
                (part.identity, part.len as u64, allocated, part.mode)
            }
            None => (
                *self.identity.get_or_init(|| {
                    (
                        u64::from(found.dwVolumeSerialNumber),
                        wide(found.nFileIndexHigh, found.nFileIndexLow),
                    )
                }),
                wide(found.nFileSizeHigh, found.nFileSizeLow),
                0,
                0o600,
            ),
        };
        Ok(Facts {
            identity,
            len,
            allocated,
            mode,
            is_linked: true,
            changed_ns: clock::since_1970(changed),
            is_owner_trusted: security::is_owner_trusted(self.disk.as_handle()),
        })
    }

    /// Reads as many bytes as there are at `offset`; perhaps fewer than `buffer` has.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let Some(part) = &self.part else {
            return self.read_disk_at(buffer, offset);
        };
        let view = part.view()?;
        let Some(offset) = usize::try_from(offset).ok().filter(|at| *at < view.len()) else {
            return Ok(0);
        };
        let count = view.committed_from(offset)?.min(buffer.len());
        // SAFETY: so many bytes are committed, and stay so.
        unsafe { copy_shared(view.base().add(offset), &mut buffer[..count]) };
        Ok(count)
    }

    /// Reads the file on disk.
    pub(crate) fn read_disk_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let mut place = OVERLAPPED::default();
        place.Anonymous.Anonymous.Offset = offset as u32;
        place.Anonymous.Anonymous.OffsetHigh = (offset >> 32) as u32;
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let mut count = 0;
        // SAFETY: the handle is open, the buffer has as many bytes, and the call is synchronous.
        let status = unsafe {
            ReadFile(
                self.as_raw_handle(),
                buffer.as_mut_ptr(),
                len,
                &raw mut count,
                &raw mut place,
            )
        };
        if status == 0 {
            let end = Errno::of(windows_sys::Win32::Foundation::ERROR_HANDLE_EOF);
            return match Errno::last() {
                errno if errno == end => Ok(0),
                errno => Err(errno),
            };
        }
        Ok(count as usize)
    }

    /// Writes a new file's content on disk.
    pub(crate) fn write_disk(&self, content: &[u8]) -> Result<(), Errno> {
        let (len, mut count) = (content.len() as u32, 0);
        // SAFETY: the handle is open, the content has as many bytes, and the call is synchronous.
        let status = unsafe {
            WriteFile(
                self.as_raw_handle(),
                content.as_ptr(),
                len,
                &raw mut count,
                std::ptr::null_mut(),
            )
        };
        match status {
            0 => Err(Errno::last()),
            _ if count == len => Ok(()),
            _ => Err(Errno::NOSPC),
        }
    }

    /// Allocates the first `len` bytes, so that touching them cannot fail.
    pub(crate) fn allocate(&self, len: usize) -> Result<(), Errno> {
        let part = self.part.as_ref().ok_or(Errno::OPNOTSUPP)?;
        if part.view()?.committed_from(0)? >= len {
            return Ok(());
        }
        part.section
            .map(part.len, Protection::ReadWrite)?
            .commit(0, len)
    }

    /// How many bytes from `offset` on have memory.
    pub(crate) fn allocated_from(&self, offset: usize) -> Result<u64, Errno> {
        let part = self.part.as_ref().ok_or(Errno::OPNOTSUPP)?;
        Ok(part.view()?.committed_from(offset)? as u64)
    }
}

impl Part {
    fn view(&self) -> Result<&View, Errno> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = self.section.map(self.len, Protection::ReadOnly)?;
        Ok(self.view.get_or_init(|| view))
    }
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    Link,
}

/// Moves a file to a name that nobody has.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    // SAFETY: both paths live until the call returns.
    match unsafe { MoveFileExW(verbatim(from).as_ptr(), verbatim(to).as_ptr(), 0) } {
        0 => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// An absolute path as the system takes it without interpreting it, however long it is.
pub(crate) fn verbatim(path: &Path) -> Vec<u16> {
    let text = path.as_os_str().to_string_lossy();
    let is_plain = |text: &str| text.get(1..3) == Some(":\\");
    let path = match text.strip_prefix("\\\\") {
        Some(rest) if rest.starts_with("?\\") || rest.starts_with(".\\") => path.to_owned(),
        Some(rest) => PathBuf::from(format!("\\\\?\\UNC\\{rest}")),
        None if is_plain(&text) => PathBuf::from(format!("\\\\?\\{text}")),
        None => path.to_owned(),
    };
    super::wide(path)
}

/// What an object's file on disk says of one of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartRecord {
    /// Filled up with zeros.
    pub(crate) name: [u8; 8],
    pub(crate) len: usize,
    pub(crate) writers: Access,
    pub(crate) readers: Access,
}

/// What an object's file on disk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) identity: Identity,
    /// Whether processes of all sessions share the object.
    pub(crate) is_global: bool,
    pub(crate) parts: Vec<PartRecord>,
}

impl Record {
    fn section_name(&self, part: &PartRecord) -> String {
        let space = if self.is_global { "Global" } else { "Local" };
        let (high, low) = self.identity;
        let end = part.name.iter().position(|byte| *byte == 0);
        let name = String::from_utf8_lossy(&part.name[..end.unwrap_or(part.name.len())]);
        format!("{space}\\corkboard-{high:016x}{low:016x}-{name}")
    }

    /// Who may use the object in any way.
    fn everybody(&self) -> Access {
        let all = self.parts.iter().map(|part| part.writers.max(part.readers));
        all.max().unwrap_or_default()
    }

    /// Makes the memory of a part that begins with `content`.
    pub(crate) fn create_part(
        &self,
        part: &PartRecord,
        allocated: usize,
        content: &[(usize, &[u8])],
    ) -> Result<Keepers, Errno> {
        let (name, everybody) = (self.section_name(part), self.everybody());
        let who = Descriptor::new(&[
            (part.writers, section::WRITE),
            (part.readers, section::READ),
            (everybody, section::KEEP),
        ])?;
        let memory = Section::create(&name, part.len, &who)?;
        let view = memory.map(part.len, Protection::ReadWrite)?;
        view.commit(0, allocated)?;
        for (offset, bytes) in content {
            assert!(offset + bytes.len() <= allocated);
            // SAFETY: committed just now, and nobody else knows of it.
            unsafe {
                let to = view.base().add(*offset);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
        let who = Descriptor::new(&[(everybody, section::WRITE)])?;
        let lot = Section::create(&lot_name(&name), LOT_LEN, &who)?;
        lot.map(LOT_LEN, Protection::ReadWrite)?
            .commit(0, LOT_LEN)?;
        Ok(Keepers::of(vec![memory, lot]))
    }

    /// Opens all sections, so that they live as long as these do. `NOENT` when the object is gone.
    pub(crate) fn keep(&self) -> Result<Keepers, Errno> {
        let mut keepers = Vec::new();
        for part in &self.parts {
            for name in [self.section_name(part), lot_name(&self.section_name(part))] {
                keepers.push(Section::open(&name, section::KEEP)?);
            }
        }
        Ok(Keepers::of(keepers))
    }

    /// Opens a part's memory.
    pub(crate) fn open_part(
        &self,
        index: usize,
        protection: Protection,
        keepers: Arc<Keepers>,
    ) -> Result<Part, Errno> {
        let part = &self.parts[index];
        let rights = match protection {
            Protection::ReadOnly => section::READ,
            Protection::ReadWrite => section::WRITE,
        };
        let name = self.section_name(part);
        Ok(Part {
            index: index as u64,
            identity: self.identity,
            is_global: self.is_global,
            len: part.len,
            mode: part.writers.mode_bits(0o6) | part.readers.mode_bits(0o4),
            section: Arc::new(Section::open(&name, rights)?),
            lot: open_lot(&name),
            keepers,
            view: OnceLock::new(),
        })
    }
}

impl Keepers {
    fn of(sections: Vec<Section>) -> Self {
        Self {
            sections,
            _alive: None,
        }
    }

    pub(crate) fn and(mut self, others: Self) -> Self {
        self.sections.extend(others.sections);
        self
    }

    /// Also keeps the lock that says that the object lives.
    pub(crate) fn with_lock(mut self, disk: File) -> Self {
        self._alive = Some(disk);
        self
    }
}

fn lot_name(section: &str) -> String {
    format!("{section}-wait")
}

fn open_lot(section: &str) -> Option<Arc<Lot>> {
    let lot = Section::open(&lot_name(section), section::WRITE).ok()?;
    let view = lot.map(LOT_LEN, Protection::ReadWrite).ok()?;
    // What another program may have made under this name is not to be trusted.
    (view.committed_from(0).ok()? >= LOT_LEN).then(|| Arc::new(Lot::Shared(view)))
}

/// Memory for hints among those who use the same lock file: zeros at first.
pub(crate) fn hints(file: &File, len: usize, access: Access) -> Result<File, Errno> {
    let Facts { identity, .. } = file.facts()?;
    let name = format!("Local\\corkboard-file-{:x}-{:x}", identity.0, identity.1);
    let who = Descriptor::new(&[(access, section::WRITE)])?;
    let mut keepers = Vec::new();
    for (name, len) in [(name.clone(), len), (lot_name(&name), LOT_LEN)] {
        let (memory, _) = Section::create_or_open(&name, len, &who)?;
        memory.map(len, Protection::ReadWrite)?.commit(0, len)?;
        keepers.push(memory);
    }
    Ok(File {
        disk: file.disk.clone(),
        identity: OnceLock::new(),
        part: Some(Part {
            index: 0,
            identity,
            is_global: false,
            len,
            mode: 0,
            section: Arc::new(Section::open(&name, section::WRITE)?),
            lot: open_lot(&name),
            keepers: Arc::new(Keepers::of(keepers)),
            view: OnceLock::new(),
        }),
    })
}

/// A record's bytes on disk.
pub(crate) const RECORD_LEN: usize = 256;
const MAGIC: [u8; 8] = *b"corkbord";
const VERSION: u64 = 1;
const MAX_PARTS: usize = 4;
const PART_WORDS: usize = 4;
const FIRST_PART: usize = 6;
const CHECKSUM: usize = RECORD_LEN / 8 - 1;

impl Record {
    pub(crate) fn encode(&self) -> [u8; RECORD_LEN] {
        let mut words = [0; RECORD_LEN / 8];
        words[..FIRST_PART].copy_from_slice(&[
            u64::from_le_bytes(MAGIC),
            VERSION,
            self.identity.0,
            self.identity.1,
            u64::from(self.is_global),
            self.parts.len() as u64,
        ]);
        for (part, words) in self
            .parts
            .iter()
            .zip(words[FIRST_PART..].chunks_mut(PART_WORDS))
        {
            words.copy_from_slice(&[
                u64::from_le_bytes(part.name),
                part.len as u64,
                part.writers as u64,
                part.readers as u64,
            ]);
        }
        let mut bytes = [0; RECORD_LEN];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        let checksum = crate::integrity::crc64(&bytes[..CHECKSUM * 8], 0);
        bytes[CHECKSUM * 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when it is not what this version could have written.
    pub(crate) fn decode(bytes: &[u8; RECORD_LEN]) -> Option<Self> {
        let mut words = [0; RECORD_LEN / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let checksum = crate::integrity::crc64(&bytes[..CHECKSUM * 8], 0);
        let [magic, version, high, low, is_global, count] = *words.first_chunk()?;
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_PARTS)?;
        if (magic, version) != (u64::from_le_bytes(MAGIC), VERSION) || checksum != words[CHECKSUM] {
            return None;
        }
        let access = |word: u64| {
            let all = [Access::Owner, Access::Group, Access::Everyone];
            all.into_iter().find(|access| *access as u64 == word)
        };
        let part = |words: &[u64]| {
            Some(PartRecord {
                name: words[0].to_le_bytes(),
                len: usize::try_from(words[1]).ok().filter(|len| *len > 0)?,
                writers: access(words[2])?,
                readers: access(words[3])?,
            })
        };
        let parts = words[FIRST_PART..].chunks(PART_WORDS).take(count).map(part);
        Some(Self {
            identity: (high, low),
            is_global: is_global == 1,
            parts: parts.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_flipped_bit_is_found() {
        let part = PartRecord {
            name: *b"data\0\0\0\0",
            len: 1 << 33,
            writers: Access::Owner,
            readers: Access::Everyone,
        };
        let record = Record {
            identity: (1, 2),
            is_global: false,
            parts: vec![part; 3],
        };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record));
        for bit in 0..RECORD_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&flipped), None, "bit {bit}");
        }
    }
}
