#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::inspect_tree::run(bytes));
