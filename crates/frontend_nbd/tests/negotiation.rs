//! The extensions that a client asks for: structured replies and metadata contexts.

mod common;

use common::client::{
    BLOCK_STATUS, Client, EINVAL, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY, OptionReply, REP_ACK, REP_ERR_INVALID, REP_ERR_UNKNOWN, REP_META_CONTEXT,
    REQ_ONE, Style, contexts, info_request, string,
};
use common::{Running, export};
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{RamDiskLayer, ram_disk};
use frontend_nbd::Limits;
use futures_lite::future::block_on;

const MIB: u64 = 1 << 20;
const LIST: u32 = OPT_LIST_META_CONTEXT;
const SET: u32 = OPT_SET_META_CONTEXT;

fn server() -> Running {
    let exports = ["first", "second"].map(|name| {
        let disk = ram_disk(MIB, false).expect("a disk");
        export(name, disk)
    });
    Running::new(exports, Limits::default())
}

fn structured(server: &Running) -> Client {
    let mut client = server.greeted();
    client.negotiate_structured();
    client
}

/// What the server says when `base:allocation` is meant, with its number.
fn allocation(id: u32) -> Vec<OptionReply> {
    [vec![context(id, "base:allocation")], nothing()].concat()
}

fn context(id: u32, name: &str) -> OptionReply {
    OptionReply {
        kind: REP_META_CONTEXT,
        data: [&id.to_be_bytes()[..], name.as_bytes()].concat(),
    }
}

fn nothing() -> Vec<OptionReply> {
    vec![OptionReply {
        kind: REP_ACK,
        data: Vec::new(),
    }]
}

fn enter(client: &mut Client, name: &str) {
    let replies = client.ask(OPT_GO, &info_request(name, &[]));
    assert_eq!(replies.last().map(|last| last.kind), Some(REP_ACK));
}

#[test]
fn structured_replies_are_agreed_to_as_often_as_asked_but_take_no_data() {
    let server = server();
    let mut client = server.greeted();
    assert_eq!(client.ask_kind(OPT_STRUCTURED_REPLY, b"x"), REP_ERR_INVALID);
    client.negotiate_structured();
    client.negotiate_structured();
    enter(&mut client, "first");
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_refused_request_for_structured_replies_changes_nothing() {
    let server = server();
    let mut client = server.greeted();
    assert_eq!(client.ask_kind(OPT_STRUCTURED_REPLY, b"x"), REP_ERR_INVALID);
    enter(&mut client, "first");
    // The client accepts nothing but simple replies.
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_list_of_contexts_offers_what_is_asked_for() {
    let server = server();
    let mut client = structured(&server);
    for queries in [
        &["base:"][..],
        &["base:allocation"],
        &["qemu:dirty-bitmap:x", "base:", "base:allocation"],
    ] {
        assert_eq!(
            client.ask(LIST, &contexts("first", queries)),
            allocation(0),
            "{queries:?}"
        );
    }
    for queries in [&["platter:"][..], &["platter:layer"]] {
        let replies = client.ask(LIST, &contexts("first", queries));
        assert_eq!(
            replies,
            [&[context(0, "platter:layer")], &nothing()[..]].concat()
        );
    }
    for queries in [&[][..], &["platter:layer", "base:"]] {
        let both = [context(0, "base:allocation"), context(0, "platter:layer")];
        let replies = client.ask(LIST, &contexts("first", queries));
        assert_eq!(replies, [&both, &nothing()[..]].concat(), "{queries:?}");
    }
    for queries in [
        &["qemu:"][..],
        &["base:alloc"],
        &["base:allocation:x"],
        &["x-base:", ":"],
    ] {
        assert_eq!(
            client.ask(LIST, &contexts("first", queries)),
            nothing(),
            "{queries:?}"
        );
    }
}

#[test]
fn a_list_of_contexts_selects_nothing() {
    let server = server();
    let mut client = structured(&server);
    client.ask(LIST, &contexts("first", &["base:allocation"]));
    enter(&mut client, "first");
    assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 512), EINVAL);
}

#[test]
fn setting_a_context_selects_it_for_that_export_only() {
    let server = server();
    for (chosen, errno) in [("first", 0), ("second", EINVAL)] {
        let mut client = structured(&server);
        let queries = ["other:thing", "base:allocation"];
        assert_eq!(client.ask(SET, &contexts("first", &queries)), allocation(1));
        enter(&mut client, chosen);
        assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 512), errno, "{chosen}");
    }
}

#[test]
fn setting_by_wildcard_or_in_another_namespace_selects_nothing() {
    let server = server();
    for queries in [
        &[][..],
        &["base:", "platter:"],
        &["qemu:allocation-depth"],
        &["base:other"],
    ] {
        let mut client = structured(&server);
        assert_eq!(
            client.ask(SET, &contexts("first", queries)),
            nothing(),
            "{queries:?}"
        );
        enter(&mut client, "first");
        assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 512), EINVAL);
        assert_eq!(client.read(0, 512), [0; 512]);
    }
}

#[test]
fn setting_again_forgets_what_was_selected_before_even_if_it_fails() {
    let server = server();
    let good = contexts("first", &["base:allocation"]);
    for second in [
        contexts("first", &[]),
        contexts("nobody", &["base:allocation"]),
        good[..good.len() - 1].to_vec(),
    ] {
        let mut client = structured(&server);
        assert_eq!(client.ask(SET, &good), allocation(1));
        client.ask(SET, &second);
        enter(&mut client, "first");
        assert_eq!(client.errno(BLOCK_STATUS, 0, 0, 512), EINVAL);
    }
}

#[test]
fn contexts_need_structured_replies() {
    let server = server();
    let mut client = server.greeted();
    let data = contexts("first", &["base:allocation"]);
    for code in [LIST, SET] {
        assert_eq!(client.ask_kind(code, &data), REP_ERR_INVALID);
    }
    client.negotiate_structured();
    assert_eq!(client.ask(SET, &data), allocation(1));
}

#[test]
fn contexts_of_an_unknown_export_are_refused() {
    let server = server();
    let mut client = structured(&server);
    for code in [LIST, SET] {
        let data = contexts("third", &["base:allocation"]);
        assert_eq!(client.ask_kind(code, &data), REP_ERR_UNKNOWN);
    }
}

#[test]
fn context_options_of_a_wrong_length_are_refused_and_the_client_may_go_on() {
    let server = server();
    let mut client = structured(&server);
    let good = contexts("first", &["base:allocation", "base:"]);
    let mut wrong: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    wrong.push([&good[..], &[0]].concat());
    // Counts that lie, as far as they can.
    wrong.push([&string("first")[..], &u32::MAX.to_be_bytes()].concat());
    wrong.push([&string("first")[..], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat());
    wrong.push(contexts("first", &["no namespace"]));
    wrong.push(contexts("first", &["base:allocation", ""]));
    wrong.push(contexts("first", &[&format!("base:{}", "x".repeat(4096))]));
    for data in wrong {
        for code in [LIST, SET] {
            assert_eq!(client.ask_kind(code, &data), REP_ERR_INVALID, "{data:02x?}");
        }
    }
    assert_eq!(client.ask(SET, &good), allocation(1));
}

/// A disk of two layers, and their numbers.
fn layered() -> (Disk, [u64; 2]) {
    let layers = [2 * MIB, MIB].map(|size| {
        let layer = RamDiskLayer::new(size).expect("a layer");
        LayerConfiguration::new(DiskLayer::new(layer))
    });
    block_on(async {
        let stack = LayeredDisk::new(false, layers.into()).await;
        let disk = Disk::new(stack.expect("a stack")).expect("a disk");
        let mut ids = [0; 2];
        for (index, id) in ids.iter_mut().enumerate() {
            let path = format!("layers/{index}/id");
            let shown = inspect::inspect(&path, None, &disk).await;
            *id = shown.expect("it is shown").as_u64().expect("a number");
        }
        (disk, ids)
    })
}

#[test]
fn each_extent_names_the_layer_that_answers() {
    let (disk, [top, _]) = layered();
    let plain = ram_disk(MIB, false).expect("a disk");
    let exports = [export("layered", disk), export("plain", plain)];
    let server = Running::new(exports, Limits::default());
    for style in [Style::Structured, Style::Extended] {
        let mut client = server.greeted();
        client.go_with("layered", style, &["platter:layer", "base:allocation"]);
        client.write(0, &[1; 65536]);
        let answer = client.call(BLOCK_STATUS, 0, 0, 1 << 20, &[]);
        assert_eq!((answer.errno, answer.chunk_count), (0, 2));
        let rest = MIB - 65536;
        assert_eq!(answer.extents, [(65536, 0), (rest, 3)]);
        assert_eq!(answer.layers, [(65536, top), (rest, 0)]);
        let one = client.call(BLOCK_STATUS, REQ_ONE, 512, 1 << 20, &[]);
        assert_eq!(one.extents, [(65024, 0)]);
        assert_eq!(one.layers, [(65024, top)]);

        let mut client = server.greeted();
        client.go_with("plain", style, &["platter:layer"]);
        client.write(0, &[1; 512]);
        let answer = client.call(BLOCK_STATUS, 0, 0, 1 << 20, &[]);
        assert_eq!((answer.errno, answer.chunk_count), (0, 1));
        assert_eq!(answer.extents, []);
        let total: u64 = answer.layers.iter().map(|layer| layer.0).sum();
        assert_eq!(total, MIB);
    }
}
