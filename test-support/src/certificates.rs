//! Certificate authorities of a test's own, and certificates that they sign.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// The years, on the first of January, between which a certificate is valid.
pub type Years = (i32, i32);

pub const VALID: Years = (2020, 2099);
pub const EXPIRED: Years = (2010, 2015);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a broker with these names and addresses.
    pub fn server(&self, names: &[&str], years: Years) -> Pair {
        self.issue(names, years, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str, years: Years) -> Pair {
        self.issue(&[name], years, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Valid for this number of days from now.
    pub fn client_for_days(&self, name: &str, days: u64) -> Pair {
        self.sign(&[name], ExtendedKeyUsagePurpose::ClientAuth, |params| {
            let now = std::time::SystemTime::now();
            params.not_before = (now - Duration::from_hours(1)).into();
            params.not_after = (now + Duration::from_hours(24 * days)).into();
        })
    }

    fn issue(&self, names: &[&str], years: Years, purpose: ExtendedKeyUsagePurpose) -> Pair {
        self.sign(names, purpose, |params| {
            (params.not_before, params.not_after) =
                (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        })
    }

    fn sign(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        set_time: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        params.extended_key_usages = vec![purpose];
        set_time(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// As `NAME.pem` and `NAME.key` in this directory.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let pem = write(directory, &format!("{name}.pem"), &self.certificate);
        (pem, write(directory, &format!("{name}.key"), &self.key))
    }
}

pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Lines of `mosquitto.conf` for a listener with TLS.
pub fn listener_lines(directory: &Path, authority: &Authority, own: &Pair, wants_client: bool) -> String {
    let ca = write(directory, "listener-ca.pem", &authority.pem());
    let (certificate, key) = own.write(directory, "listener");
    format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {wants_client}",
        ca.display(),
        certificate.display(),
        key.display()
    )
}
