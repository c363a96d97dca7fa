//! Named quantizers of weights: the papers' settings as data.

use crate::{
    AdditivePowerOfTwo, Basis, BasisDigits, BasisStart, Binary, ClusterMethod, ClusterStart,
    Clustering, Codebook, Companded, Companding, Density, Entries, Exponent, GradientRule,
    Granularity, Grid, Hashed, Midpoint, Minifloat, PowerOfTwo, QuantError, Quantizer, ScaleRule,
    TernaryValues, Uniform, UniformCodes, ZeroPoint,
};

/// A named quantizer.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// The quantizer.
    pub quantizer: fn() -> Quantizer,
}

/// All presets. Those of a family whose bit width is free come in the widths their papers report.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "int8",
        paper: "Jacob et al. 2018, arXiv:1712.05877",
        quantizer: || int(8, ScaleRule::MaxAbs),
    },
    Preset { name: "int8-mse", paper: "least squared error", quantizer: || int(8, ScaleRule::Mse) },
    Preset { name: "int6-mse", paper: "least squared error", quantizer: || int(6, ScaleRule::Mse) },
    Preset { name: "int4-mse", paper: "least squared error", quantizer: || int(4, ScaleRule::Mse) },
    Preset { name: "int3-mse", paper: "least squared error", quantizer: || int(3, ScaleRule::Mse) },
    Preset { name: "int2-mse", paper: "least squared error", quantizer: || int(2, ScaleRule::Mse) },
    Preset {
        name: "int4-affine",
        paper: "Jacob et al. 2018, arXiv:1712.05877",
        quantizer: int4_affine,
    },
    Preset {
        name: "int4-group64",
        paper: "Mellempudi et al. 2017, arXiv:1705.01462",
        quantizer: int4_group64,
    },
    Preset {
        name: "int4-fisher",
        paper: "Choi et al. 2017, arXiv:1612.01543",
        quantizer: || int(4, ScaleRule::WeightedMse),
    },
    Preset { name: "int8-pot", paper: "Jain et al. 2020, arXiv:1903.08066", quantizer: int8_pot },
    Preset {
        name: "dorefa-4",
        paper: "Zhou et al. 2016, arXiv:1606.06160",
        quantizer: || mid_rise(4, ScaleRule::MaxAbs),
    },
    Preset {
        name: "dorefa-2",
        paper: "Zhou et al. 2016, arXiv:1606.06160",
        quantizer: || mid_rise(2, ScaleRule::MaxAbs),
    },
    Preset {
        name: "hwgq-4",
        paper: "Cai et al. 2017, arXiv:1702.00953",
        quantizer: || mid_rise(4, ScaleRule::Gauss),
    },
    Preset {
        name: "sawb-2",
        paper: "Choi et al. 2018, arXiv:1807.06964",
        quantizer: || mid_rise(2, ScaleRule::Sawb),
    },
    Preset {
        name: "sawb-4",
        paper: "Choi et al. 2018, arXiv:1807.06964",
        quantizer: || int(4, ScaleRule::Sawb),
    },
    Preset {
        name: "aciq-4",
        paper: "Banner et al. 2019, arXiv:1810.05723",
        quantizer: || int(4, ScaleRule::Aciq { density: Density::Laplace }),
    },
    Preset { name: "lsq-4", paper: "Esser et al. 2020, arXiv:1902.08153", quantizer: lsq4 },
    Preset {
        name: "binary-connect",
        paper: "Courbariaux et al. 2015, arXiv:1511.00363",
        quantizer: binary_connect,
    },
    Preset {
        name: "bwn",
        paper: "Rastegari et al. 2016, arXiv:1603.05279",
        quantizer: || binary(ScaleRule::MeanAbs),
    },
    Preset { name: "ir-net", paper: "Qin et al. 2020, arXiv:1909.10788", quantizer: ir_net },
    Preset {
        name: "syq-binary",
        paper: "Faraone et al. 2018, arXiv:1807.00301",
        quantizer: syq_binary,
    },
    Preset {
        name: "twn",
        paper: "Li et al. 2016, arXiv:1605.04711",
        quantizer: || Quantizer::per_channel(Grid::Ternary, ScaleRule::Twn),
    },
    Preset {
        name: "ternary-optimal",
        paper: "Hou and Kwok 2018, arXiv:1802.08635",
        quantizer: || Quantizer::per_channel(Grid::Ternary, ScaleRule::TernaryOptimal),
    },
    Preset { name: "ttq", paper: "Zhu et al. 2017, arXiv:1612.01064", quantizer: ttq },
    Preset {
        name: "syq-ternary",
        paper: "Faraone et al. 2018, arXiv:1807.00301",
        quantizer: syq_ternary,
    },
    Preset { name: "fgq", paper: "Mellempudi et al. 2017, arXiv:1705.01462", quantizer: fgq },
    Preset {
        name: "lognet-4",
        paper: "Miyashita et al. 2016, arXiv:1603.01025",
        quantizer: || power(7, Midpoint::Geometric, ScaleRule::LogRange),
    },
    Preset {
        name: "inq-5",
        paper: "Zhou et al. 2017, arXiv:1702.03044",
        quantizer: || power(8, Midpoint::Arithmetic, ScaleRule::LogRange),
    },
    Preset {
        name: "inq-4",
        paper: "Zhou et al. 2017, arXiv:1702.03044",
        quantizer: || power(4, Midpoint::Arithmetic, ScaleRule::LogRange),
    },
    Preset {
        name: "inq-3",
        paper: "Zhou et al. 2017, arXiv:1702.03044",
        quantizer: || power(2, Midpoint::Arithmetic, ScaleRule::LogRange),
    },
    Preset {
        name: "pot-4",
        paper: "Miyashita et al. 2016, arXiv:1603.01025, nearest levels at the scale of least squared error",
        quantizer: || power(7, Midpoint::Arithmetic, ScaleRule::Mse),
    },
    Preset { name: "apot-5", paper: "Li et al. 2020, arXiv:1909.13144", quantizer: || additive(5) },
    Preset { name: "apot-4", paper: "Li et al. 2020, arXiv:1909.13144", quantizer: || additive(4) },
    Preset { name: "apot-3", paper: "Li et al. 2020, arXiv:1909.13144", quantizer: || additive(3) },
    Preset {
        name: "lq-nets-2",
        paper: "Zhang et al. 2018, arXiv:1807.10029",
        quantizer: || basis(2, BasisStart::Uniform),
    },
    Preset {
        name: "lq-nets-3",
        paper: "Zhang et al. 2018, arXiv:1807.10029",
        quantizer: || basis(3, BasisStart::Uniform),
    },
    Preset {
        name: "lq-nets-4",
        paper: "Zhang et al. 2018, arXiv:1807.10029",
        quantizer: || basis(4, BasisStart::Uniform),
    },
    Preset { name: "abc-net-3", paper: "Lin et al. 2017, arXiv:1711.11294", quantizer: abc_net },
    Preset {
        name: "alternating-2",
        paper: "Xu et al. 2018, arXiv:1802.00150",
        quantizer: || basis(2, BasisStart::Greedy),
    },
    Preset {
        name: "kmeans-16",
        paper: "Han et al. 2016, arXiv:1510.00149",
        quantizer: || codebook(16, k_means(0.0)),
    },
    Preset {
        name: "kmeans-256",
        paper: "Han et al. 2016, arXiv:1510.00149",
        quantizer: || codebook(256, k_means(0.0)),
    },
    Preset {
        name: "deep-compression-32",
        paper: "Han et al. 2016, arXiv:1510.00149",
        quantizer: || codebook(32, k_means(0.7)),
    },
    Preset {
        name: "optimal-16",
        paper: "Wang and Song 2011, Ckmeans.1d.dp",
        quantizer: || codebook(16, ClusterMethod::Optimal.into()),
    },
    Preset {
        name: "ecsq-32",
        paper: "Choi et al. 2017, arXiv:1612.01543",
        quantizer: || codebook(32, ClusterMethod::Entropy { lambda: 0.003, rounds: 50 }.into()),
    },
    Preset {
        name: "product-9x256",
        paper: "Gong et al. 2014, arXiv:1412.6115; Stock et al. 2020, arXiv:1907.05686",
        quantizer: product,
    },
    Preset { name: "hashed-64", paper: "Chen et al. 2015, arXiv:1504.04788", quantizer: hashed },
    Preset {
        name: "fp8-e4m3",
        paper: "OCP OFP8 1.0, 2023",
        quantizer: || minifloat(Minifloat::E4m3),
    },
    Preset {
        name: "fp8-e5m2",
        paper: "OCP OFP8 1.0, 2023",
        quantizer: || minifloat(Minifloat::E5m2),
    },
    Preset {
        name: "fp6-e3m2",
        paper: "OCP MX 1.0, 2023",
        quantizer: || minifloat(Minifloat::E3m2),
    },
    Preset {
        name: "fp4-e2m1",
        paper: "OCP MX 1.0, 2023",
        quantizer: || minifloat(Minifloat::E2m1),
    },
    Preset { name: "companded-4", paper: "ITU-T G.711's curve, μ = 15", quantizer: companded },
];

impl Quantizer {
    /// The preset of that name.
    ///
    /// # Errors
    /// `UnknownRule` for a name that is not in [`PRESETS`].
    pub fn preset(name: &str) -> Result<Self, QuantError> {
        let preset = PRESETS.iter().find(|preset| preset.name == name);
        preset.map(|preset| (preset.quantizer)()).ok_or_else(|| QuantError::UnknownRule {
            kind: "quantizer",
            found: name.to_owned(),
            expected: "the names of PRESETS, such as int4-mse, twn, apot-4, kmeans-16",
        })
    }
}

fn int(bits: u8, scale: ScaleRule) -> Quantizer {
    Quantizer::per_channel(Grid::Uniform(Uniform { bits, codes: UniformCodes::Narrow }), scale)
}

fn mid_rise(bits: u8, scale: ScaleRule) -> Quantizer {
    let grid = Grid::Uniform(Uniform { bits, codes: UniformCodes::MidRise });
    Quantizer { gradient: GradientRule::Identity, ..Quantizer::per_channel(grid, scale) }
}

fn int4_affine() -> Quantizer {
    let grid = Grid::Uniform(Uniform { bits: 4, codes: UniformCodes::Unsigned });
    Quantizer { zero_point: ZeroPoint::Affine, ..Quantizer::per_channel(grid, ScaleRule::Mse) }
}

fn int4_group64() -> Quantizer {
    Quantizer { granularity: Granularity::Group { size: 64 }, ..int(4, ScaleRule::Mse) }
}

fn int8_pot() -> Quantizer {
    let of = Box::new(ScaleRule::MaxAbs);
    int(8, ScaleRule::PowerOfTwo { of, exponent: Exponent::Up })
}

fn lsq4() -> Quantizer {
    let grid = Grid::Uniform(Uniform { bits: 4, codes: UniformCodes::Signed });
    let start = Box::new(ScaleRule::Lsq);
    let learned = Quantizer::per_channel(grid, ScaleRule::Learned { start });
    Quantizer { granularity: Granularity::Tensor, ..learned }
}

fn binary(scale: ScaleRule) -> Quantizer {
    Quantizer::per_channel(Grid::Binary { levels: Binary::PlusMinus }, scale)
}

/// The paper's weights are ±1 and batch normalization takes up their scale; without retraining the scale has to be there.
fn binary_connect() -> Quantizer {
    Quantizer { granularity: Granularity::Tensor, ..binary(ScaleRule::MeanAbs) }
}

fn ir_net() -> Quantizer {
    let of = Box::new(ScaleRule::MeanAbs);
    let rule = ScaleRule::PowerOfTwo { of, exponent: Exponent::Nearest };
    Quantizer { gradient: GradientRule::TanhEde { t: 0.1 }, ..binary(rule) }
}

fn syq_binary() -> Quantizer {
    Quantizer { granularity: Granularity::Pixel, ..binary(ScaleRule::MeanAbs) }
}

fn ttq() -> Quantizer {
    let values = TernaryValues::Two;
    let rule = ScaleRule::MaxFraction { fraction: 0.05, values };
    Quantizer {
        granularity: Granularity::Tensor,
        gradient: GradientRule::ScaleWeighted,
        ..Quantizer::per_channel(Grid::Ternary, rule)
    }
}

fn syq_ternary() -> Quantizer {
    let rule = ScaleRule::MaxFraction { fraction: 0.05, values: TernaryValues::One };
    Quantizer { granularity: Granularity::Pixel, ..Quantizer::per_channel(Grid::Ternary, rule) }
}

fn fgq() -> Quantizer {
    let granularity = Granularity::Group { size: 64 };
    Quantizer { granularity, ..Quantizer::per_channel(Grid::Ternary, ScaleRule::TernaryOptimal) }
}

fn power(exponents: u8, midpoint: Midpoint, scale: ScaleRule) -> Quantizer {
    Quantizer::per_channel(Grid::PowerOfTwo(PowerOfTwo { exponents, midpoint }), scale)
}

fn additive(bits: u8) -> Quantizer {
    let grid = AdditivePowerOfTwo { bits, term_bits: 2 };
    Quantizer::per_channel(Grid::AdditivePowerOfTwo(grid), ScaleRule::Mse)
}

fn basis(bases: u8, start: BasisStart) -> Quantizer {
    let grid = Grid::Basis(Basis { bases, digits: BasisDigits::PlusMinus });
    Quantizer::per_channel(grid, ScaleRule::Basis { start, rounds: 50 })
}

/// Without turns: digits by shifts, one least-squares fit.
fn abc_net() -> Quantizer {
    let grid = Grid::Basis(Basis { bases: 3, digits: BasisDigits::PlusMinus });
    Quantizer::per_channel(grid, ScaleRule::Basis { start: BasisStart::Shifted, rounds: 0 })
}

fn k_means(prune: f64) -> Clustering {
    let method = ClusterMethod::KMeans { start: ClusterStart::Linear, rounds: 100 };
    Clustering { method, prune }
}

/// Entries per tensor, snapped to int8 so that kernels and standard operators can use them.
fn codebook(entries: u32, clustering: Clustering) -> Quantizer {
    let grid = Grid::Codebook(Codebook { entries, dimension: 1, numbers: Entries::Int8 });
    let fitted = Quantizer::per_channel(grid, ScaleRule::Cluster(clustering));
    Quantizer { granularity: Granularity::Tensor, gradient: GradientRule::Identity, ..fitted }
}

fn product() -> Quantizer {
    let grid = Codebook { entries: 256, dimension: 9, numbers: Entries::Int8 };
    let method = ClusterMethod::KMeans { start: ClusterStart::PlusPlus, rounds: 30 };
    let rule = ScaleRule::Cluster(Clustering { method, prune: 0.0 });
    Quantizer {
        granularity: Granularity::Tensor,
        ..Quantizer::per_channel(Grid::Codebook(grid), rule)
    }
}

fn hashed() -> Quantizer {
    let grid = Grid::Hashed(Hashed { buckets: 64 });
    Quantizer {
        granularity: Granularity::Tensor,
        ..Quantizer::per_channel(grid, ScaleRule::BucketMeans)
    }
}

fn minifloat(format: Minifloat) -> Quantizer {
    Quantizer::per_channel(Grid::Minifloat { format }, ScaleRule::MaxAbs)
}

fn companded() -> Quantizer {
    let grid = Companded { bits: 4, curve: Companding::MuLaw { mu: 15.0 } };
    Quantizer::per_channel(Grid::Companded(grid), ScaleRule::Mse)
}
