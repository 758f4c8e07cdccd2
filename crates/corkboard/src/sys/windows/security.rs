//! Who may do what: security descriptors, and whom this process runs for.

use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_ATTRIBUTES, TOKEN_INFORMATION_CLASS, TOKEN_PRIMARY_GROUP, TOKEN_QUERY, TOKEN_USER,
    TokenPrimaryGroup, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::{Errno, owned};
use crate::access::Access;

/// The system's own user, and its administrators: they may do everything anyway.
const SYSTEM: &str = "S-1-5-18";
const ADMINISTRATORS: &str = "S-1-5-32-544";
const EVERYONE: &str = "S-1-1-0";

/// Who may do what with a new object.
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// Everything for this user, and access rights for whom else they are.
    pub(crate) fn new(others: &[(Access, u32)]) -> Result<Self, Errno> {
        let mut text = format!("D:P(A;;GA;;;{})", user()?);
        for (access, rights) in others {
            let who = match access {
                Access::Owner => continue,
                Access::Group => primary_group()?,
                Access::Everyone => EVERYONE.to_owned(),
            };
            text += &format!("(A;;{rights:#x};;;{who})");
        }
        Self::parse(&text)
    }

    /// For an event that everybody may set.
    pub(crate) fn wakeable() -> Result<Self, Errno> {
        const SET: u32 = windows_sys::Win32::System::Threading::EVENT_MODIFY_STATE;
        Self::new(&[(Access::Everyone, SET)])
    }

    fn parse(text: &str) -> Result<Self, Errno> {
        let (text, mut descriptor) = (super::wide(text), ptr::null_mut());
        // SAFETY: the text ends with a zero; the descriptor is ours to free.
        let status = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        };
        match status {
            0 => Err(Errno::last()),
            _ => Ok(Self(descriptor)),
        }
    }

    /// As calls take it; good as long as `self` is.
    pub(crate) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: allocated by the conversion, freed only here.
        unsafe { LocalFree(self.0) };
    }
}

/// Whether nobody but this user and the system's administrators may do to the file what they like.
pub(crate) fn is_owner_trusted(file: BorrowedHandle<'_>) -> bool {
    let owner = owner(file);
    owner.is_ok_and(|owner| {
        owner == SYSTEM || owner == ADMINISTRATORS || user().is_ok_and(|user| user == owner)
    })
}

/// The owner of a file or directory.
pub(crate) fn owner(file: BorrowedHandle<'_>) -> Result<String, Errno> {
    let (mut owner, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open; `owner` points into the descriptor, which is ours to free.
    unsafe {
        let status = GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        );
        if status != 0 {
            return Err(Errno::of(status));
        }
        let text = sid_text(owner);
        LocalFree(descriptor);
        text
    }
}

/// The user that this process runs for.
pub(crate) fn user() -> Result<String, Errno> {
    // SAFETY: what the system fills in begins with such a structure.
    token_information(TokenUser, |bytes| unsafe {
        sid_text((*bytes.cast::<TOKEN_USER>()).User.Sid)
    })
}

fn primary_group() -> Result<String, Errno> {
    // SAFETY: as above.
    token_information(TokenPrimaryGroup, |bytes| unsafe {
        sid_text((*bytes.cast::<TOKEN_PRIMARY_GROUP>()).PrimaryGroup)
    })
}

fn token_information<T>(
    class: TOKEN_INFORMATION_CLASS,
    read: impl FnOnce(*const u64) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let mut token = ptr::null_mut();
    // SAFETY: the token is ours to close.
    let token = unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) == 0 {
            return Err(Errno::last());
        }
        owned(token)?
    };
    // More than any of these needs; words, for they are aligned.
    let mut buffer = [0_u64; 64];
    let mut len = 0;
    // SAFETY: the buffer has as many bytes as is said.
    let status = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &raw mut len,
        )
    };
    match status {
        0 => Err(Errno::last()),
        _ => read(buffer.as_ptr()),
    }
}

/// # Safety
/// The identifier is valid.
unsafe fn sid_text(sid: PSID) -> Result<String, Errno> {
    let mut text = ptr::null_mut();
    // SAFETY: valid, as the caller vouches; the text ends with a zero and is ours to free.
    unsafe {
        if ConvertSidToStringSidW(sid, &raw mut text) == 0 {
            return Err(Errno::last());
        }
        let len = (0..).take_while(|at| *text.add(*at) != 0).count();
        let string = String::from_utf16_lossy(std::slice::from_raw_parts(text, len));
        LocalFree(text.cast());
        Ok(string)
    }
}
