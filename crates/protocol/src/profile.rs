//! What a client's connection has agreed on with the proxy, and how it has introduced itself. Not
//! what it has asked for. Invariant: a client that has said nothing about itself costs a pointer.

/// Which version of its protocol a connection speaks. Each begins with the first. When a client has
/// chosen another its requests travel on server connections that speak that one, too, since the
/// same request may have another response there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// RESP2, or memcached's text.
    #[default]
    Basic,
    /// RESP3.
    Resp3,
}

impl Version {
    /// Its number, as a client of Redis knows it.
    pub fn number(self) -> u8 {
        match self {
            Version::Basic => 2,
            Version::Resp3 => 3,
        }
    }

    /// Every version.
    pub const ALL: [Version; 2] = [Version::Basic, Version::Resp3];
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// What is spoken with the client.
    pub version: Version,
    /// The client has given the password. Only asked for where there is one.
    pub authenticated: bool,
    /// A number that no other client of the process has, or has had. 1 or more.
    pub id: u64,
    /// How the client calls itself, if it has said so.
    pub labels: Option<Box<Labels>>,
}

/// How a client calls itself. Printable words without spaces; empty where it has not said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// The connection's name.
    pub name: Box<[u8]>,
    /// The client library.
    pub library: Box<[u8]>,
    /// Its version.
    pub library_version: Box<[u8]>,
}

impl Profile {
    /// The connection's name; empty when it has none.
    pub fn name(&self) -> &[u8] {
        self.labels.as_ref().map_or(&[], |labels| &labels.name)
    }

    /// The client library and its version; empty where the client has not said.
    pub fn library(&self) -> [&[u8]; 2] {
        let labels = self.labels.as_ref();
        labels.map_or([&[], &[]], |labels| [&labels.library, &labels.library_version])
    }
}
