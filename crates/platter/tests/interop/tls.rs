//! TLS with certificates, as other people's clients speak it; and the context that names layers.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::tool::outcome;
use crate::support::{Daemon, MIB, Random, assert_same_bytes, peers, read, run, write};

/// Folders of certificates that one authority signed, under the names that QEMU and libnbd look for: `server` and `client`.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    for side in ["server", "client"] {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        // Some QEMUs refuse certificates that name their uses and leave this second one out.
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.distinguished_name.push(DnType::CommonName, side);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let folder = folder.join(side);
        std::fs::create_dir(&folder).expect("a folder");
        write(&folder.join("ca-cert.pem"), &ca);
        write(&folder.join(format!("{side}-cert.pem")), certificate.pem());
        write(&folder.join(format!("{side}-key.pem")), key.serialize_pem());
    }
}

/// A daemon with TLS over a file `disk.raw` of these bytes, and the URI for libnbd.
fn secure_daemon(content: &[u8], arguments: &[&'static str]) -> (Daemon, String) {
    let folder = TempDir::new().expect("a folder");
    certificates(folder.path());
    write(&folder.path().join("disk.raw"), content);
    let always = ["--layer", "file:disk.raw", "--tls-certificates", "server"];
    let daemon = Daemon::serve_in(folder, always.iter().chain(arguments).copied());
    let (socket, client) = (daemon.socket(), daemon.folder().join("client"));
    let uri = format!(
        "nbds+unix:///?socket={}&tls-certificates={}",
        socket.display(),
        client.display()
    );
    (daemon, uri)
}

#[test]
fn libnbd_copies_over_tls_with_certificates_on_both_sides() {
    let Some([nbdinfo, nbdcopy]) = peers(["nbdinfo", "nbdcopy"]) else {
        return;
    };
    let content = Random::new(7).bytes(8 * MIB);
    let (daemon, uri) = secure_daemon(&content, &["--tls-verify-peer"]);
    let text = run(Command::new(nbdinfo).args(["--json", &uri]));
    let info: Value = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    assert_eq!(info["TLS"], true);
    assert_eq!(info["exports"][0]["export-size"], 8 * MIB);
    let copy = daemon.folder().join("copy.raw");
    run(Command::new(&nbdcopy).arg(&uri).arg(&copy));
    assert_same_bytes(&read(&copy), &content);
    let changed = Random::new(8).bytes(8 * MIB);
    write(&copy, &changed);
    run(Command::new(nbdcopy).args(["--flush"]).arg(&copy).arg(&uri));
    let folder = daemon.stop();
    assert_same_bytes(&read(&folder.path().join("disk.raw")), &changed);
}

#[test]
fn qemu_converts_over_tls() {
    let Some([qemu_img]) = peers(["qemu-img"]) else {
        return;
    };
    let content = Random::new(9).bytes(4 * MIB);
    let (daemon, _) = secure_daemon(&content, &["--tls-verify-peer"]);
    let client = daemon.folder().join("client");
    let object = format!(
        "tls-creds-x509,id=tls,endpoint=client,dir={}",
        client.display()
    );
    let socket = daemon.socket();
    let disk = format!(
        "driver=nbd,server.type=unix,server.path={},tls-creds=tls,tls-hostname=localhost",
        socket.display()
    );
    let copy = daemon.folder().join("copy.raw");
    let mut convert = Command::new(qemu_img);
    convert.args([
        "convert",
        "--object",
        &object,
        "--image-opts",
        &disk,
        "-O",
        "raw",
    ]);
    run(convert.arg(&copy));
    assert_same_bytes(&read(&copy), &content);
    daemon.stop();
}

#[test]
fn a_required_tls_refuses_clients_without_and_an_optional_one_serves_them() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let content = [0; MIB as usize];
    let (daemon, secure_uri) = secure_daemon(&content, &[]);
    let refused = outcome(Command::new(&nbdinfo).arg(daemon.uri()));
    assert!(!refused.status.success());
    // Nobody asks for the client's certificate here.
    run(Command::new(&nbdinfo).arg(secure_uri));
    daemon.stop();
    let (daemon, secure_uri) = secure_daemon(&content, &["--tls", "optional"]);
    for uri in [daemon.uri(), secure_uri] {
        run(Command::new(&nbdinfo).arg(uri));
    }
    daemon.stop();
}

#[test]
fn a_client_without_a_certificate_is_refused_where_peers_are_verified() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let (daemon, uri) = secure_daemon(&[0; MIB as usize], &["--tls-verify-peer"]);
    for side in ["client-cert.pem", "client-key.pem"] {
        std::fs::remove_file(daemon.folder().join("client").join(side)).expect("it was there");
    }
    let refused = outcome(Command::new(nbdinfo).arg(uri));
    assert!(!refused.status.success(), "{}", refused.stdout);
    daemon.stop();
}

#[test]
fn nbdinfo_maps_the_layers() {
    let Some([nbdinfo]) = peers(["nbdinfo"]) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    write(&folder.path().join("base.raw"), Random::new(3).bytes(MIB));
    let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
    daemon.client().write(0, &[1; 65536]);
    let map = ["--map=platter:layer", "--json", &daemon.uri()];
    let text = run(Command::new(nbdinfo).args(map));
    let map: Vec<Value> = serde_json::from_str(&text).expect("nbdinfo writes JSON");
    let extents: Vec<_> = map.iter().map(|extent| &extent["length"]).collect();
    assert_eq!(extents, [&Value::from(65536), &Value::from(MIB - 65536)]);
    let layers: Vec<_> = map.iter().map(|extent| extent["type"].as_u64()).collect();
    assert!(layers.iter().all(|layer| layer.is_some_and(|id| id > 0)));
    assert_ne!(layers[0], layers[1]);
    daemon.stop();
}
