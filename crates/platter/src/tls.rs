//! The certificates that `platter serve` was told to use.

use crate::cli::{TlsArgs, TlsMode};
use crate::exit::{Failure, chain};
use frontend_nbd::{ListenAddress, TlsConfig};

/// The certificates, if there are any.
pub(crate) fn load(args: &TlsArgs) -> Result<Option<TlsConfig>, Failure> {
    let Some(folder) = &args.tls_certificates else {
        return Ok(None);
    };
    let config = TlsConfig::from_folder(folder, args.tls_verify_peer)
        .map_err(|error| Failure::configuration(chain(&error)))?;
    Ok(Some(match args.tls {
        TlsMode::Required => config,
        TlsMode::Optional => config.optional(),
    }))
}

/// The URI of an export, for clients that use TLS where they must.
pub(crate) fn uri(address: &ListenAddress, export_name: &str, tls: Option<&TlsConfig>) -> String {
    let uri = address.uri(export_name);
    match tls.is_some_and(TlsConfig::is_required) {
        true => uri.replacen("nbd", "nbds", 1),
        false => uri,
    }
}

/// Says who may come in at an address that others can reach.
pub(crate) fn warn_of_strangers(address: &ListenAddress, tls: Option<&TlsConfig>) {
    if address.is_local() {
        return;
    }
    match tls {
        None => tracing::warn!(
            %address,
            "whoever reaches this address can read and write: there is no TLS and no authentication (see --tls-certificates)"
        ),
        Some(tls) if !tls.is_required() => tracing::warn!(
            %address,
            "whoever reaches this address can read and write: TLS is optional"
        ),
        Some(tls) if !tls.verifies_clients() => tracing::warn!(
            %address,
            "whoever reaches this address can read and write, in TLS: clients need no certificate (see --tls-verify-peer)"
        ),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_asks_for_tls_only_where_it_is_required() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = TlsConfig::from_pem(certificate.as_bytes(), key.as_bytes(), None).unwrap();
        for (address, plain, secure) in [
            (
                "tcp:127.0.0.1:10809",
                "nbd://127.0.0.1:10809/vm",
                "nbds://127.0.0.1:10809/vm",
            ),
            (
                "unix:/run/nbd",
                "nbd+unix:///vm?socket=/run/nbd",
                "nbds+unix:///vm?socket=/run/nbd",
            ),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(uri(&address, "vm", None), plain);
            assert_eq!(uri(&address, "vm", Some(&tls)), secure);
            assert_eq!(uri(&address, "vm", Some(&tls.clone().optional())), plain);
        }
    }
}
