//! Lights: how the same world looks at another hour, through another camera.
//!
//! A model that was trained under one light learns that light. `random` draws a light from the seed
//! and is meant for training; the named ones are fixed, for tests that can be repeated.

use std::str::FromStr;

/// A bright spot in the sky that spills over the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glare {
    /// Direction of the sun in radians, clockwise from +z.
    pub yaw: f32,
    /// Height of the sun above the horizon in radians.
    pub height: f32,
    /// Grey levels added at the spot's middle.
    pub strength: f32,
}

/// A light, and the camera's answer to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Factor per colour.
    pub gain: [f32; 3],
    /// Contrast around mid grey.
    pub contrast: f32,
    /// Exponent of the tone curve; above one darkens the middle.
    pub gamma: f32,
    /// Darkening in the corners, 0 to 1.
    pub vignette: f32,
    /// Sensor noise in grey levels.
    pub noise: f32,
    /// Darkness of the shadows on the ground, 0 to 1.
    pub shadow: f32,
    /// The sky at the top.
    pub sky: [u8; 3],
    /// The sky at the horizon.
    pub haze: [u8; 3],
    /// The sun in the picture.
    pub glare: Option<Glare>,
}

/// The name of a light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightName {
    /// Clear day, soft shadows.
    Day,
    /// Grey, flat, no shadows.
    Overcast,
    /// Low, dark, warm light and a noisy sensor.
    Dusk,
    /// A low sun in the picture for part of the lap, hard shadows.
    Glare,
    /// Lamps indoors: cool, a strong vignette, a very noisy sensor.
    Lamps,
    /// Drawn from the seed.
    Random,
}

/// Every name, in the order of the documentation.
pub const NAMES: [(&str, LightName); 6] = [
    ("day", LightName::Day),
    ("overcast", LightName::Overcast),
    ("dusk", LightName::Dusk),
    ("glare", LightName::Glare),
    ("lamps", LightName::Lamps),
    ("random", LightName::Random),
];

impl LightName {
    /// The word used on the command line and in reports.
    pub fn word(self) -> &'static str {
        NAMES.iter().find(|(_, name)| *name == self).map_or("day", |(word, _)| word)
    }

    /// The light itself. Only `random` depends on the seed.
    ///
    /// What `random` draws never has the sun in the picture and is never as dark as dusk, so that
    /// both stay unseen by a model trained on it.
    pub fn light(self, seed: u64) -> Light {
        match self {
            Self::Day => DAY,
            Self::Overcast => Light {
                gain: [0.84, 0.87, 0.92],
                contrast: 0.82,
                shadow: 0.0,
                sky: [168, 174, 182],
                haze: [196, 200, 204],
                ..DAY
            },
            Self::Dusk => Light {
                gain: [0.62, 0.49, 0.50],
                contrast: 0.95,
                gamma: 1.05,
                vignette: 0.25,
                noise: 6.0,
                shadow: 0.15,
                sky: [62, 58, 96],
                haze: [206, 128, 84],
                glare: None,
            },
            Self::Glare => Light {
                gain: [1.12, 1.06, 0.94],
                contrast: 1.12,
                noise: 4.0,
                shadow: 0.5,
                sky: [150, 180, 214],
                haze: [238, 226, 196],
                glare: Some(Glare { yaw: 0.8, height: 0.22, strength: 190.0 }),
                ..DAY
            },
            Self::Lamps => Light {
                gain: [0.74, 0.80, 0.90],
                contrast: 0.92,
                gamma: 1.1,
                vignette: 0.45,
                noise: 10.0,
                shadow: 0.2,
                sky: [70, 74, 82],
                haze: [92, 96, 104],
                glare: None,
            },
            Self::Random => draw(seed),
        }
    }
}

const DAY: Light = Light {
    gain: [1.0, 1.0, 1.0],
    contrast: 1.0,
    gamma: 1.0,
    vignette: 0.1,
    noise: 2.0,
    shadow: 0.25,
    sky: [104, 156, 214],
    haze: [186, 208, 226],
    glare: None,
};

fn draw(seed: u64) -> Light {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x11C4_7000);
    let mut between = |low: f32, high: f32| low + (high - low) * rng.f32();
    let gain = between(0.7, 1.2);
    let mut tint = || gain * between(0.92, 1.08);
    let gain = [tint(), tint(), tint()];
    let mut grey = |low: f32, high: f32| between(low, high) as u8;
    let sky = [grey(60.0, 190.0), grey(80.0, 200.0), grey(100.0, 230.0)];
    let haze = [grey(110.0, 240.0), grey(120.0, 235.0), grey(110.0, 230.0)];
    Light {
        gain,
        contrast: between(0.8, 1.2),
        gamma: between(0.85, 1.18),
        vignette: between(0.0, 0.4),
        noise: between(1.0, 9.0),
        shadow: between(0.0, 0.5),
        sky,
        haze,
        glare: None,
    }
}

impl Light {
    /// What becomes of each value of one colour (0 red, 1 green, 2 blue).
    pub fn curve(&self, colour: usize) -> [u8; 256] {
        std::array::from_fn(|value| {
            let lit = (value as f32 / 255.0 * self.gain[colour]).max(0.0).powf(self.gamma);
            let out = (lit - 0.45) * self.contrast + 0.45;
            (out * 255.0).round().clamp(0.0, 255.0) as u8
        })
    }
}

/// There is no light of that name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no light is called {0:?}; there are day, overcast, dusk, glare, lamps and random")]
pub struct UnknownLight(String);

impl FromStr for LightName {
    type Err = UnknownLight;

    fn from_str(word: &str) -> Result<Self, UnknownLight> {
        let found = NAMES.iter().find(|(name, _)| *name == word);
        found.map(|(_, light)| *light).ok_or_else(|| UnknownLight(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (word, name) in NAMES {
            assert_eq!(word.parse::<LightName>(), Ok(name));
            assert_eq!(name.word(), word);
        }
        assert!("noon".parse::<LightName>().is_err());
    }

    #[test]
    fn random_depends_on_the_seed_alone_and_spares_what_is_held_out() {
        assert_eq!(LightName::Random.light(4), LightName::Random.light(4));
        assert_ne!(LightName::Random.light(4), LightName::Random.light(5));
        let brightness = |light: Light| light.gain.iter().sum::<f32>();
        let dusk = brightness(LightName::Dusk.light(0));
        for seed in 0..200 {
            let light = LightName::Random.light(seed);
            assert!(light.glare.is_none() && brightness(light) > dusk * 1.1);
        }
    }
}
