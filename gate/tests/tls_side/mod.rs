//! The other side of TLS: authorities, their certificates, and a client that keeps its bytes in memory.
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use gate::transport::tls::{Pem, ServerCertificate, TlsMaterial, TlsPolicy};
use gate::transport::{Passage, Stack, StackConfig, TransportError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::client::ClientConnection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};

pub(crate) type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn server(&self, name: &str) -> ServerCertificate {
        self.server_until(name, 2_099)
    }

    pub(crate) fn expired_server(&self, name: &str) -> ServerCertificate {
        self.server_until(name, 2_001)
    }

    fn server_until(&self, name: &str, year: i32) -> ServerCertificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2_000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerCertificate {
            chain: Pem::new(format!("{name}.pem"), certificate.pem()),
            key: Pem::new(format!("{name}.key"), key.serialize_pem()),
        }
    }

    pub(crate) fn client(&self, name: &str) -> Credentials {
        self.client_until(name, 1, 2_099)
    }

    pub(crate) fn client_numbered(&self, name: &str, serial: u64) -> Credentials {
        self.client_until(name, serial, 2_099)
    }

    pub(crate) fn expired_client(&self, name: &str) -> Credentials {
        self.client_until(name, 1, 2_001)
    }

    pub(crate) fn client_until(&self, name: &str, serial: u64, year: i32) -> Credentials {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        // Addresses have fewer characters than common names.
        if name.chars().all(char::is_alphanumeric) && !name.is_empty() {
            let address = format!("{name}@clients.test").try_into().unwrap();
            params.subject_alt_names = vec![SanType::Rfc822Name(address)];
        }
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2_000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A list that is due to be renewed early in a year.
    pub(crate) fn crl(&self, serials: &[u64], year: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2_000, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2_000, 6, 1),
            next_update: date_time_ymd(year, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A client that trusts the authority.
pub(crate) fn config(
    ca: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    credentials: Option<Credentials>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match credentials {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    })
}

pub(crate) fn stack(policy: &Arc<TlsPolicy>) -> Stack {
    let config = StackConfig { tls: Some(Arc::clone(policy)), ..StackConfig::default() };
    config.stack(None).unwrap()
}

pub(crate) fn stack_of(material: &TlsMaterial) -> Stack {
    stack(&Arc::new(material.policy().unwrap()))
}

/// rustls's client; bytes for the server wait until they are taken.
pub(crate) struct Client {
    conn: ClientConnection,
    has_ended: bool,
    error: Option<rustls::Error>,
}

impl Client {
    pub(crate) fn new(config: Arc<ClientConfig>, server: &str) -> Self {
        let name = ServerName::try_from(server.to_owned()).unwrap();
        Self { conn: ClientConnection::new(config, name).unwrap(), has_ended: false, error: None }
    }

    pub(crate) fn write(&mut self, plain: &[u8]) {
        self.conn.writer().write_all(plain).unwrap();
    }

    /// Takes the server's bytes and answers what they hold.
    pub(crate) fn read(&mut self, mut wire: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !wire.is_empty() && self.error.is_none() {
            if self.conn.read_tls(&mut wire).unwrap() == 0 {
                break;
            }
            match self.conn.process_new_packets() {
                Ok(state) => self.has_ended |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            // That there is no more for now is an error as well.
            drop(self.conn.reader().read_to_end(&mut plain));
        }
        plain
    }

    pub(crate) fn take_wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.conn.wants_write() {
            self.conn.write_tls(&mut wire).unwrap();
        }
        wire
    }

    pub(crate) fn finish(&mut self) {
        self.conn.send_close_notify();
    }

    /// Whether the server has ended its side in an orderly way.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the server ended it with an alert.
    pub(crate) fn is_refused(&self) -> bool {
        self.error.is_some() || !self.conn.is_handshaking()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.conn.protocol_version()
    }

    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.conn.alpn_protocol().map(<[u8]>::to_vec)
    }
}

/// Carries bytes both ways, in pieces of some length to the server, until both are silent. What came out
/// of the stack.
pub(crate) fn exchange(
    client: &mut Client,
    stack: &mut Stack,
    piece_bytes: usize,
) -> Result<Vec<u8>, TransportError> {
    let mut out = Passage::default();
    let mut end = Ok(());
    loop {
        let wire = client.take_wire();
        if wire.is_empty() || end.is_err() {
            return end.map(|()| out.plain);
        }
        for piece in wire.chunks(piece_bytes) {
            end = end.and_then(|()| stack.receive(piece, &mut out));
        }
        client.read(&std::mem::take(&mut out.wire));
        if end.is_ok()
            && let Some(error) = &client.error
        {
            // The client refuses: its alert is what the server ends with.
            let problem = error.to_string();
            let alert = client.take_wire();
            stack.receive(&alert, &mut out)?;
            panic!("the server does not mind that the client does: {problem}");
        }
    }
}
