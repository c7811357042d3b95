//! Certificates for tests, made with the openssl program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with an authority and the certificates that it has signed.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// A new authority; none, with a word about it, when there is no openssl.
    pub fn new() -> Option<Self> {
        let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("left out: openssl is not installed");
            return None;
        }
        let certificates = Self {
            folder: tempfile::Builder::new().prefix("leveret-tls-").tempdir().unwrap(),
        };
        certificates.authority("ca");
        Some(certificates)
    }

    /// The path of `NAME.pem`, `NAME.key` and so on.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The same as text.
    pub fn text(&self, file: &str) -> String {
        self.path(file).to_str().unwrap().to_owned()
    }

    /// An authority of its own, `NAME.pem` and `NAME.key`.
    pub fn authority(&self, name: &str) {
        self.new_key(name);
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/CN=Authority {name}");
        let extension = "basicConstraints=critical,CA:TRUE";
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-subj",
            &subject,
            "-days",
            "30",
            "-addext",
            extension,
        ]);
    }

    /// A certificate signed by the authority `ca`: `NAME.pem` and `NAME.key`. `alternative_names` such as
    /// `DNS:localhost,IP:127.0.0.1`.
    pub fn issue(&self, name: &str, subject: &str, alternative_names: &str) {
        self.issue_by("ca", name, subject, alternative_names);
    }

    /// The same, signed by another authority.
    pub fn issue_by(&self, authority: &str, name: &str, subject: &str, alternative_names: &str) {
        self.new_key(name);
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&["req", "-new", "-key", &key, "-out", &request, "-subj", subject, "-utf8"]);
        std::fs::write(self.path("extensions"), format!("subjectAltName={alternative_names}\n")).unwrap();
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        // Into place in one step, as tools that renew certificates do it.
        let made = format!("{certificate}.new");
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &made,
            "-days",
            "10",
            "-extfile",
            "extensions",
        ]);
        std::fs::rename(self.path(&made), self.path(&certificate)).unwrap();
    }

    /// Revokes certificates of the authority `ca`, as `NAME.pem`, and writes its list of all that were, `crl.pem`. Without a year the
    /// list is good for a month, else it was until the end of that year.
    pub fn revoke(&self, names: &[&str], until: Option<u16>) {
        let index = self.path("index.txt");
        if !index.exists() {
            std::fs::write(&index, "").unwrap();
            // Without extensions openssl makes lists of version 1.
            let config = "[ca]\ndefault_ca = all\n[all]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 30\n\
                crl_extensions = extensions\n[extensions]\nauthorityKeyIdentifier = keyid:always\n";
            std::fs::write(self.path("ca.conf"), config).unwrap();
        }
        let ca = ["ca", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key"];
        for name in names {
            self.openssl(&[&ca[..], &["-revoke", &format!("{name}.pem")]].concat());
        }
        let mut list = [&ca[..], &["-gencrl", "-out", "crl.pem.new"]].concat();
        let times = until.map(|year| [format!("{year}0101000000Z"), format!("{year}1231235959Z")]);
        if let Some([last, next]) = &times {
            list.extend(["-crl_lastupdate", last, "-crl_nextupdate", next]);
        }
        self.openssl(&list);
        std::fs::rename(self.path("crl.pem.new"), self.path("crl.pem")).unwrap();
    }

    fn new_key(&self, name: &str) {
        let key = format!("{name}.key");
        self.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &key,
        ]);
    }

    /// Runs openssl in the folder.
    pub fn openssl(&self, arguments: &[&str]) {
        openssl_in(self.folder.path(), arguments);
    }
}

fn openssl_in(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
}
