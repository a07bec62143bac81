//! Our own certificate authority and the server's certificate. The authority's key lives in a 0600 file; the server's
//! key never leaves memory, and its certificate is made anew before it ends. Never trusts anything and never asks the
//! network.

use crate::auth::token::write_private;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The names that the server's certificate always holds.
pub const NAMES: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

const CA_NAME: &str = "windlass-ca@";
const CA_DAYS: i64 = 3650;
const CA_RENEW_DAYS: i64 = 365;
const SERVER_DAYS: i64 = 90;
const SERVER_RENEW_DAYS: i64 = 30;

/// The certificate authority of one home.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    names: Vec<String>,
}

impl Authority {
    /// Reads `ca.crt` and `ca.key` (0600) from a directory, or makes them; makes them anew in their last year.
    /// `names` are host names or addresses beyond [`NAMES`].
    pub fn load_or_create(dir: &Path, names: &[String], now: Timestamp) -> io::Result<Self> {
        let (crt, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        if let (Ok(pem), Ok(key)) = (std::fs::read_to_string(&crt), std::fs::read_to_string(&key))
            && let Some(held) = Self::of(&pem, &key, names, now)
        {
            return Ok(held);
        }
        let (made, key_pem) = Self::create(names, now)?;
        write_private(&key, key_pem.as_bytes())?;
        std::fs::write(&crt, &made.pem)?;
        Ok(made)
    }

    /// An authority that nobody keeps, for servers without a home.
    pub fn ephemeral(names: &[String], now: Timestamp) -> io::Result<Self> {
        Self::create(names, now).map(|(made, _)| made)
    }

    fn create(names: &[String], now: Timestamp) -> io::Result<(Self, String)> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let key_pem = key.serialize_pem();
        let params = ca_params(now.as_second())?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ok((Self { pem, der, issuer: Issuer::new(params, key), names: names.to_vec() }, key_pem))
    }

    fn of(pem: &str, key: &str, names: &[String], now: Timestamp) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = KeyPair::from_pem(key).ok()?;
        // The subject says when it was made (`windlass-ca@SECONDSs`), so no parser of certificates is needed here.
        let at = der.windows(CA_NAME.len()).position(|w| w == CA_NAME.as_bytes())? + CA_NAME.len();
        let digits: String = der[at..].iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
        let made: i64 = digits.parse().ok()?;
        if now.as_second() > made + (CA_DAYS - CA_RENEW_DAYS) * 86_400 {
            return None;
        }
        // A key beside another certificate would sign what nobody trusts.
        if !der.windows(key.public_key_raw().len()).any(|w| w == key.public_key_raw()) {
            return None;
        }
        let params = ca_params(made).ok()?;
        Some(Self { pem: pem.to_owned(), der, issuer: Issuer::new(params, key), names: names.to_vec() })
    }

    /// The authority's certificate in PEM, for clients and pods.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn server_certificate(&self, now: Timestamp) -> io::Result<Arc<CertifiedKey>> {
        let mut names: Vec<String> = NAMES.iter().map(|n| (*n).to_owned()).collect();
        names.extend(self.names.iter().filter(|n| !NAMES.contains(&n.as_str())).cloned());
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "windlass");
        params.use_authority_key_identifier_extension = true;
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        valid(&mut params, now, SERVER_DAYS)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&der).map_err(io::Error::other)?;
        Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone(), self.der.clone()], signer)))
    }
}

/// A server configuration (HTTP/2 and HTTP/1.1) whose certificate renews itself.
pub fn server_config(authority: Authority) -> io::Result<Arc<rustls::ServerConfig>> {
    let now = Timestamp::now();
    let first = Held { key: authority.server_certificate(now)?, renew: renew_at(now) };
    let resolver = Arc::new(Renewing { authority, held: Mutex::new(first) });
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

struct Held {
    key: Arc<CertifiedKey>,
    renew: Timestamp,
}

struct Renewing {
    authority: Authority,
    held: Mutex<Held>,
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewing")
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = Timestamp::now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= held.renew {
            match self.authority.server_certificate(now) {
                Ok(key) => *held = Held { key, renew: renew_at(now) },
                Err(error) => tracing::error!(%error, "the server's certificate could not be renewed"),
            }
        }
        Some(held.key.clone())
    }
}

fn renew_at(now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_hours(24 * (SERVER_DAYS - SERVER_RENEW_DAYS))).unwrap_or(now)
}

fn ca_params(made: i64) -> io::Result<CertificateParams> {
    let now = Timestamp::from_second(made).map_err(io::Error::other)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, format!("{CA_NAME}{made}s"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    valid(&mut params, now, CA_DAYS)?;
    Ok(params)
}

/// From yesterday, so that a clock a little behind ours accepts it, for so many days.
fn valid(params: &mut CertificateParams, now: Timestamp, days: i64) -> io::Result<()> {
    let date = |days: i64| -> io::Result<(i32, u8, u8)> {
        let moved = now.checked_add(SignedDuration::from_hours(24 * days)).map_err(io::Error::other)?;
        let date: Date = moved.to_zoned(TimeZone::UTC).date();
        let small = |n: i8| u8::try_from(n).map_err(io::Error::other);
        Ok((i32::from(date.year()), small(date.month())?, small(date.day())?))
    };
    let (from, to) = (date(-1)?, date(days)?);
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_authority_is_kept_until_its_last_year() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let first = Authority::load_or_create(dir.path(), &[], now).unwrap();
        let key = dir.path().join("ca.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Authority::load_or_create(dir.path(), &[], now).unwrap();
        assert_eq!(first.pem(), again.pem());
        again.server_certificate(now).unwrap();
        let later: Timestamp = "2036-01-01T00:00:00Z".parse().unwrap();
        assert_ne!(Authority::load_or_create(dir.path(), &[], later).unwrap().pem(), first.pem());
        std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let replaced = Authority::load_or_create(dir.path(), &[], now).unwrap();
        assert_ne!(replaced.pem(), first.pem(), "a key that does not belong to the certificate is not used");
    }
}
