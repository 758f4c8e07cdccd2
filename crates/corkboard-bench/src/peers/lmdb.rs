//! LMDB through heed: a memory-mapped tree, here on tmpfs and told not to synchronise anything.
//!
//! It is what many take for "the latest value, shared between processes". A publication is a
//! transaction that replaces one key's value, a read is a transaction that looks it up.

use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use crate::payload::consume;
use crate::scratch::Scratch;

const KEY: &[u8] = b"value";

pub fn publisher(scratch: &Scratch) -> Result<impl FnMut(&[u8]) + use<>> {
    let (env, database) = open(&scratch.fresh("lmdb"))?;
    Ok(move |value: &[u8]| {
        let mut transaction = env.write_txn().expect("LMDB begins");
        database
            .put(&mut transaction, KEY, value)
            .expect("LMDB writes");
        transaction.commit().expect("LMDB commits");
    })
}

pub fn reader<const N: usize>(scratch: &Scratch, value: &[u8]) -> Result<impl FnMut() + use<N>> {
    let (env, database) = open(&scratch.fresh("lmdb"))?;
    let mut transaction = env.write_txn()?;
    database.put(&mut transaction, KEY, value)?;
    transaction.commit()?;
    Ok(move || {
        let transaction = env.read_txn().expect("LMDB begins");
        let value = database.get(&transaction, KEY).expect("LMDB reads");
        consume::<N>(value.expect("it was written"));
    })
}

fn open(path: &Path) -> Result<(Env, Database<Bytes, Bytes>)> {
    std::fs::create_dir(path)?;
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20);
    // SAFETY: nobody but this run touches the directory, and losing everything in a crash of the
    // machine, which not synchronising allows, loses nothing on tmpfs.
    let env = unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
        options.open(path)?
    };
    let mut transaction = env.write_txn()?;
    let database = env.create_database(&mut transaction, None)?;
    transaction.commit()?;
    Ok((env, database))
}
