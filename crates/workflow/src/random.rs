use uuid::Uuid;

/// A value that [`Cx::random`](crate::Cx::random) can draw. Sealed.
pub trait Random: sealed::Draw {}

impl<T: sealed::Draw> Random for T {}

/// xoshiro256++ (Blackman and Vigna, 2019), seeded by SplitMix64: the same seed draws the same numbers for ever, on
/// every platform.
///
/// Part of the history's format: a running instance replays its draws, so this must never change.
#[derive(Debug, Clone)]
pub(crate) struct Generator([u64; 4]);

impl Generator {
    pub(crate) fn seeded(mut seed: u64) -> Self {
        let mut split_mix = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self([split_mix(), split_mix(), split_mix(), split_mix()])
    }

    pub(crate) fn draw<T: Random>(&mut self) -> T {
        T::draw(self)
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.draw::<u128>().to_be_bytes()).into_uuid()
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

mod sealed {
    use super::Generator;

    pub trait Draw {
        #[doc(hidden)]
        fn draw(generator: &mut impl Numbers) -> Self;
    }

    pub trait Numbers {
        fn next_u64(&mut self) -> u64;
    }

    impl Numbers for Generator {
        fn next_u64(&mut self) -> u64 {
            self.next()
        }
    }

    impl Draw for u64 {
        fn draw(generator: &mut impl Numbers) -> Self {
            generator.next_u64()
        }
    }

    impl Draw for u32 {
        fn draw(generator: &mut impl Numbers) -> Self {
            (generator.next_u64() >> 32) as u32
        }
    }

    impl Draw for u128 {
        fn draw(generator: &mut impl Numbers) -> Self {
            (u128::from(generator.next_u64()) << 64) | u128::from(generator.next_u64())
        }
    }

    impl Draw for bool {
        fn draw(generator: &mut impl Numbers) -> Self {
            generator.next_u64() >> 63 == 1
        }
    }

    /// From 0 up to, not including, 1.
    impl Draw for f64 {
        fn draw(generator: &mut impl Numbers) -> Self {
            (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers_for_ever() {
        let mut generator = Generator::seeded(42);
        let drawn: Vec<u64> = (0..3).map(|_| generator.draw()).collect();
        assert_eq!(drawn, [0xd076_4d4f_4476_689f, 0x519e_4174_576f_3791, 0xfbe0_7cfb_0c24_ed8c]);
    }

    #[test]
    fn a_fraction_lies_between_zero_and_one() {
        let mut generator = Generator::seeded(7);
        assert!((0..1000).map(|_| generator.draw::<f64>()).all(|number| (0.0..1.0).contains(&number)));
    }
}
