//! Which instruction set runs: found once, forced by `LOWBIT_ISA`, and proved by tokens.
//!
//! A token ([`Avx2`], [`AvxVnni`], [`Avx512`], [`Amx`], [`Neon`], [`NeonDot`]) has a private field and is made here alone, after the CPU was
//! asked; so holding one proves that the instructions exist. [`Isa::dispatch`] is the single door from run time to compiled tier: it calls a
//! `#[target_feature]` method of a [`Task`] into which the task's generic body is inlined. This module knows no kernel.

use std::sync::OnceLock;

use crate::arch::Arch;
use crate::nhwc::Codes;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that the CPU has dot products of bytes in vectors of 256 bits (AVX-VNNI) besides [`Avx2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvxVnni(());

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Proof that the CPU has AMX's products of bytes besides [`Avx512`], and that the system lets this process use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amx(Avx512);

#[cfg(target_arch = "x86_64")]
impl Amx {
    /// As [`Isa::dispatch`], for tasks that no other tier runs.
    pub(crate) fn dispatch<T: Task>(self, task: T) -> T::Output {
        // SAFETY: the token is made only after the CPU reported these features.
        unsafe { task.run_avx512(self.0) }
    }
}

/// Proof that the CPU has AArch64's vectors of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

/// Proof that the CPU has AArch64's dot products of bytes (FEAT_DotProd) besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeonDot(());

/// The tier of instructions that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, whatever the compiler makes of it for the base target.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2(Avx2),
    /// x86-64 with AVX2, FMA and AVX-VNNI.
    AvxVnni(AvxVnni),
    /// x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI.
    Avx512(Avx512),
    /// As [`Isa::Avx512`]; dense convolutions of codes run on the matrix unit.
    Amx(Amx),
    /// AArch64 with NEON.
    Neon(Neon),
    /// AArch64 with NEON and dot products of bytes.
    NeonDot(NeonDot),
}

/// A body that is compiled once for each tier; `run` and all it calls must be `#[inline(always)]`.
///
/// The tiers are methods of the trait because the compiler generates a provided method with the module of the type that has it. Were
/// they functions here, one core would compile the kernels of all modules as one unit.
pub(crate) trait Task: Sized {
    type Output;
    fn run<A: Codes>(self, arch: A) -> Self::Output;

    #[inline(never)]
    fn run_portable(self) -> Self::Output {
        self.run(crate::arch::Portable)
    }

    /// # Safety
    /// The token proves that the CPU has these features; nothing else is asked.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn run_avx2(self, token: Avx2) -> Self::Output {
        self.run(token)
    }

    /// # Safety
    /// As for [`Task::run_avx2`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    #[inline(never)]
    unsafe fn run_avx_vnni(self, token: AvxVnni) -> Self::Output {
        self.run(token)
    }

    /// # Safety
    /// As for [`Task::run_avx2`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    #[inline(never)]
    unsafe fn run_avx512(self, token: Avx512) -> Self::Output {
        self.run(token)
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(never)]
    fn run_neon(self, token: Neon) -> Self::Output {
        self.run(token)
    }

    /// # Safety
    /// The token proves that the CPU has these features; nothing else is asked.
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
    #[inline(never)]
    unsafe fn run_neon_dot(self, token: NeonDot) -> Self::Output {
        self.run(token)
    }
}

/// Plain Rust that is worth compiling for each tier; `run` and all it calls should be `#[inline(always)]`.
pub trait Body {
    /// What it gives.
    type Output;
    /// Does it.
    fn run(self) -> Self::Output;
}

struct Plain<B>(B);

impl<B: Body> Task for Plain<B> {
    type Output = B::Output;

    #[inline(always)]
    fn run<A: Arch>(self, _: A) -> B::Output {
        self.0.run()
    }
}

impl Isa {
    /// Runs `body` as the compiler vectorizes it for this tier. Floats are computed alike on all tiers: a multiplication and an addition
    /// are fused only where `mul_add` says so.
    pub fn vectorize<B: Body>(self, body: B) -> B::Output {
        self.dispatch(Plain(body))
    }

    /// The best tier of this CPU, or a lower one where the environment variable `LOWBIT_ISA` names it (`portable`, `avx2`, `avxvnni`,
    /// `avx512`, `amx`, `neon`, `neondot`); a tier that the CPU lacks is lowered to what it has. Read once in a process.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let (available, forced) = (Self::available(), std::env::var("LOWBIT_ISA"));
            let named = available.iter().find(|isa| forced.as_deref() == Ok(isa.name()));
            *named.unwrap_or(&available[available.len() - 1])
        })
    }

    /// Every tier that this CPU can run, from the plainest to the widest.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut tiers = vec![Self::Portable];
        tiers.extend(detect_avx2().map(Self::Avx2));
        tiers.extend(detect_avx_vnni().map(Self::AvxVnni));
        tiers.extend(detect_avx512().map(Self::Avx512));
        tiers.extend(detect_amx().map(Self::Amx));
        tiers.extend(detect_neon().map(Self::Neon));
        tiers.extend(detect_neon_dot().map(Self::NeonDot));
        tiers
    }

    /// The name that `LOWBIT_ISA` takes for this tier.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2(_) => "avx2",
            Self::AvxVnni(_) => "avxvnni",
            Self::Avx512(_) => "avx512",
            Self::Amx(_) => "amx",
            Self::Neon(_) => "neon",
            Self::NeonDot(_) => "neondot",
        }
    }

    /// The tier of what runs on vectors.
    pub(crate) fn vectors(self) -> Self {
        match self {
            Self::Amx(Amx(token)) => Self::Avx512(token),
            isa => isa,
        }
    }

    /// The register tile, on which packed layouts depend.
    pub(crate) fn tile(self) -> TileShape {
        struct Shape;
        impl Task for Shape {
            type Output = TileShape;

            #[inline(always)]
            fn run<A: Arch>(self, _: A) -> TileShape {
                TileShape { rows: A::ROWS, lanes: A::LANES, vectors: A::VECTORS }
            }
        }
        self.dispatch(Shape)
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn dispatch<T: Task>(self, task: T) -> T::Output {
        match self {
            // No other token is ever made for this architecture.
            Self::Portable | Self::Neon(_) | Self::NeonDot(_) => task.run_portable(),
            // SAFETY: the token is made only after the CPU reported these features.
            Self::Avx2(token) => unsafe { task.run_avx2(token) },
            // SAFETY: the token is made only after the CPU reported these features.
            Self::AvxVnni(token) => unsafe { task.run_avx_vnni(token) },
            // SAFETY: the token is made only after the CPU reported these features.
            Self::Avx512(token) | Self::Amx(Amx(token)) => unsafe { task.run_avx512(token) },
        }
    }

    #[cfg(target_arch = "aarch64")]
    pub(crate) fn dispatch<T: Task>(self, task: T) -> T::Output {
        match self {
            // No other token is ever made for this architecture.
            Self::Portable | Self::Avx2(_) | Self::AvxVnni(_) | Self::Avx512(_) | Self::Amx(_) => {
                task.run_portable()
            }
            Self::Neon(token) => task.run_neon(token),
            // SAFETY: the token is made only after the CPU reported these features.
            Self::NeonDot(token) => unsafe { task.run_neon_dot(token) },
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn dispatch<T: Task>(self, task: T) -> T::Output {
        task.run_portable()
    }
}

/// A kind of kernel and the tier that runs it.
macro_rules! kernel_name {
    ($kind:literal, $isa:expr) => {
        match $isa {
            $crate::isa::Isa::Portable => concat!($kind, " portable"),
            $crate::isa::Isa::Avx2(_) => concat!($kind, " avx2"),
            $crate::isa::Isa::AvxVnni(_) => concat!($kind, " avxvnni"),
            $crate::isa::Isa::Avx512(_) => concat!($kind, " avx512"),
            $crate::isa::Isa::Amx(_) => concat!($kind, " amx"),
            $crate::isa::Isa::Neon(_) => concat!($kind, " neon"),
            $crate::isa::Isa::NeonDot(_) => concat!($kind, " neondot"),
        }
    };
}
pub(crate) use kernel_name;

/// The register tile of a tier: `rows` broadcast operands against `vectors` of `lanes` words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileShape {
    pub(crate) rows: usize,
    pub(crate) lanes: usize,
    pub(crate) vectors: usize,
}

impl TileShape {
    pub(crate) fn columns(self) -> usize {
        self.lanes * self.vectors
    }
}

#[cfg(target_arch = "x86_64")]
fn detect_avx2() -> Option<Avx2> {
    let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    found.then_some(Avx2(()))
}

#[cfg(target_arch = "x86_64")]
fn detect_avx_vnni() -> Option<AvxVnni> {
    let found = detect_avx2().is_some() && is_x86_feature_detected!("avxvnni");
    found.then_some(AvxVnni(()))
}

#[cfg(target_arch = "x86_64")]
fn detect_avx512() -> Option<Avx512> {
    let found = detect_avx2().is_some()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    found.then_some(Avx512(()))
}

/// The first call asks the system, which gives the matrix unit's registers only to processes that do.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn detect_amx() -> Option<Amx> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const TILES_AND_BYTES: u32 = 1 << 24 | 1 << 25;
    const REQUEST_PERMISSION: libc::c_int = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    static FOUND: OnceLock<Option<Amx>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let token = detect_avx512()?;
        if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & TILES_AND_BYTES != TILES_AND_BYTES {
            return None;
        }
        // SAFETY: this call of the system reads and writes no memory of ours.
        let status = unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) };
        (status == 0).then_some(Amx(token))
    })
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn detect_amx() -> Option<Amx> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx2() -> Option<Avx2> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx_vnni() -> Option<AvxVnni> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_avx512() -> Option<Avx512> {
    None
}

/// The kernels take the first byte of a word for the lowest.
#[cfg(target_arch = "aarch64")]
fn detect_neon() -> Option<Neon> {
    let found = cfg!(target_endian = "little") && std::arch::is_aarch64_feature_detected!("neon");
    found.then_some(Neon(()))
}

#[cfg(target_arch = "aarch64")]
fn detect_neon_dot() -> Option<NeonDot> {
    let found = detect_neon().is_some() && std::arch::is_aarch64_feature_detected!("dotprod");
    found.then_some(NeonDot(()))
}

#[cfg(not(target_arch = "aarch64"))]
fn detect_neon() -> Option<Neon> {
    None
}

#[cfg(not(target_arch = "aarch64"))]
fn detect_neon_dot() -> Option<NeonDot> {
    None
}
