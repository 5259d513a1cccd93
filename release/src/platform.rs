//! `Platform`: the two kinds of machine a release is made for.

use std::{fmt, str::FromStr};

use crate::text::serde_as_text;

/// A platform in OCI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    /// `linux/amd64`: the digital twin, and every server.
    LinuxAmd64,
    /// `linux/arm64`: the car.
    LinuxArm64,
}

/// The platform is not one that releases are made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: want linux/amd64 or linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// Both, in the order in which an index lists them.
    pub const ALL: [Self; 2] = [Self::LinuxAmd64, Self::LinuxArm64];

    /// The operating system (`linux`).
    pub const fn os(self) -> &'static str {
        "linux"
    }

    /// The architecture in OCI's words (GOARCH).
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
        }
    }

    /// The platform this program was built for, if releases are made for it.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::LinuxAmd64),
            "aarch64" => Some(Self::LinuxArm64),
            _ => None,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "linux/amd64" => Ok(Self::LinuxAmd64),
            // Some builders write the variant; v8 is the only one of arm64.
            "linux/arm64" | "linux/arm64/v8" => Ok(Self::LinuxArm64),
            _ => Err(PlatformError(text.chars().take(60).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os(), self.architecture())
    }
}

serde_as_text!(Platform, "linux/amd64 or linux/arm64", "^linux/(amd64|arm64(/v8)?)$");
