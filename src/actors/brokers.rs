//! Converts a row of `mqtt_servers` to the link's type, so that the two adapters stay independent.

use secrecy::ExposeSecret;

use crate::mqtt::{BrokerServer, Credential, MqttVersion, TlsFiles};
use crate::store::{MqttServer, ProtocolVersion, TlsColumns};

impl From<MqttServer> for BrokerServer {
    fn from(row: MqttServer) -> BrokerServer {
        let credentials = row.credentials().map(|(user, password)| {
            (Credential::new(user), Credential::new(password.expose_secret().to_owned()))
        });
        let tls = row.tls.map(|TlsColumns { ca_file, client_cert_file, client_key_file }| TlsFiles {
            ca_file,
            client_cert_file,
            client_key_file,
        });
        let version = row.protocol_version.map(|version| match version {
            ProtocolVersion::V5 => MqttVersion::V5,
            ProtocolVersion::V311 => MqttVersion::V311,
        });
        BrokerServer { id: row.id, host: row.host, port: row.port, credentials, tls, version }
    }
}
