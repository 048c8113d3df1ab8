//! Which files can be loaded as guests, and which cannot.

use std::fs;

use abide::domain::Digest;
use abide::engine::LoadError;

use super::{EngineBench, engine, guest, job, text, turn};

#[tokio::test]
async fn a_damaged_precompiled_file_is_made_anew() {
    let bench = EngineBench::new(1);
    let bytes = guest("echo");
    drop(bench.engine.load(&bytes).expect("echo loads"));
    let files = || {
        let cache = fs::read_dir(bench.folder.path().join("cache")).expect("the cache");
        cache
            .map(|file| file.expect("a file").path())
            .collect::<Vec<_>>()
    };
    let [file] = files().try_into().expect("one precompiled file");
    let good = fs::read(&file).expect("the file");
    let last = good.len() - 1;
    for damage in [
        &good[..last],
        &good[..10],
        b"",
        &[&good[..last], &[!good[last]]].concat(),
    ] {
        fs::write(&file, damage).expect("the damage is done");
        let engine = engine(bench.folder.path(), 1);
        let job = job(engine.load(&bytes).expect("echo loads"));
        assert_eq!(
            text(&turn(&engine, &job, "x").await.expect("a turn")),
            "#1 user: x"
        );
        assert_eq!(files(), std::slice::from_ref(&file));
        let anew = fs::read(&file).expect("the file");
        assert_eq!(Digest::of(&anew), Digest::of(&good), "it is as it was");
    }
}

#[test]
fn components_are_kept_by_digest() {
    let bench = EngineBench::new(1);
    let bytes = guest("echo");
    let digest = bench.engine.keep(&bytes).expect("it is kept");
    assert_eq!(bench.engine.keep(&bytes).expect("again"), digest);
    let kept = bench
        .engine
        .kept(digest)
        .expect("it is whole")
        .expect("it is there");
    assert_eq!(
        (kept.digest(), kept.size_bytes()),
        (digest, bytes.len() as u64)
    );
    assert_eq!(kept.contract(), "0.1.0");
    drop(kept);
    assert!(
        bench
            .engine
            .kept(Digest::of(b"other"))
            .expect("no error")
            .is_none()
    );
    let file = bench
        .folder
        .path()
        .join(format!("components/{digest}.wasm"));
    fs::write(file, b"damage").expect("the damage is done");
    let damaged = bench.engine.kept(digest);
    assert!(
        matches!(damaged, Err(LoadError::Damaged { .. })),
        "{damaged:?}"
    );
}

/// Builds a component that imports empty instances of these names, and exports the first of them
/// under another name.
fn component(imports: &[&str], export: &str) -> Vec<u8> {
    let string = |text: &str| [&[0, text.len() as u8], text.as_bytes()].concat();
    let section = |id: u8, items: Vec<Vec<u8>>| {
        let body = [&[items.len() as u8], items.concat().as_slice()].concat();
        let size = [(body.len() & 0x7f) as u8 | 0x80, (body.len() >> 7) as u8];
        [&[id], size.as_slice(), &body].concat()
    };
    const EMPTY_INSTANCE_TYPE: [u8; 2] = [0x42, 0];
    const INSTANCE: u8 = 5;
    const NO_TYPE: u8 = 0;
    let import = |name: &&str| [string(name), vec![INSTANCE, 0]].concat();
    let exported = [string(export), vec![INSTANCE, 0, NO_TYPE]].concat();
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        section(7, vec![EMPTY_INSTANCE_TYPE.to_vec()]),
        section(10, imports.iter().map(import).collect()),
        section(11, vec![exported]),
    ]
    .concat()
}

#[test]
fn what_is_no_guest_is_refused_before_it_runs() {
    let bench = EngineBench::new(1);
    let refusal = |bytes: &[u8]| bench.engine.load(bytes).expect_err("it is no guest");
    assert!(matches!(refusal(b"#!/bin/sh"), LoadError::NotWasm));
    assert!(matches!(refusal(b"\0asm\x01\0\0\0"), LoadError::CoreModule));
    assert!(matches!(
        refusal(b"\0asm\x0d\0\x01\0junk"),
        LoadError::Compile { .. }
    ));

    let good = "wasi:io/error@0.2.0";
    let import = refusal(&component(
        &[good, "acme:secrets/store@1.0.0"],
        "abide:session/guest@0.1.0",
    ));
    assert!(
        matches!(&import, LoadError::Import { name } if name == "acme:secrets/store@1.0.0"),
        "{import}"
    );
    let contract = refusal(&component(&[good], "abide:session/guest@0.9.0"));
    assert!(matches!(contract, LoadError::Contract { .. }), "{contract}");
    let text = contract.to_string();
    assert!(text.contains("@0.9.0") && text.contains("0.1.0"), "{text}");
    let export = refusal(&component(&[good], "acme:other/guest@0.1.0"));
    assert!(
        matches!(&export, LoadError::Export { name, .. } if name == "abide:session/guest@0.1.0"),
        "{export}"
    );
    let function = refusal(&component(&[good], "abide:session/guest@0.1.0"));
    assert!(
        matches!(&function, LoadError::Export { name, .. } if name.ends_with("#open")),
        "{function}"
    );
    let cache = fs::read_dir(bench.folder.path().join("cache")).expect("the cache");
    assert_eq!(cache.count(), 0, "what was refused is not kept");
}
