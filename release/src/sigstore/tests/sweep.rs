//! One flipped bit in every stretch of every signed field.

use super::{
    bases::bases,
    edit::{CERTIFICATE, ENTRY, SIGNATURE, STAMP, bytes},
};

/// Every so many bytes one is flipped: enough to touch each field of a certificate or a stamp.
const STRIDE: usize = 23;

#[test]
fn flipped_bits_are_refused() {
    let entry = |field: &str| format!("{ENTRY}/{field}");
    let (body, promise) =
        (entry("canonicalizedBody"), entry("inclusionPromise/signedEntryTimestamp"));
    let fields: [&[&str]; 6] =
        [&SIGNATURE, &CERTIFICATE, &STAMP, &[&body], &[&promise], &["/dsseEnvelope/payload"]];
    let mut runs = 0;
    for base in bases() {
        for paths in fields {
            let mut length = 0;
            if !bytes(&mut base.bundle.clone(), paths, |bytes| length = bytes.len()) {
                continue;
            }
            for position in (0..length).step_by(STRIDE) {
                let mut bundle = base.bundle.clone();
                bytes(&mut bundle, paths, |bytes| bytes[position] ^= 1 << (position % 8));
                let verdict = base.verify(&bundle);
                assert!(verdict.answer.is_err(), "{}: {paths:?} at {position}", base.name);
                runs += 1;
            }
        }
    }
    eprintln!("{runs} flipped bits");
}
