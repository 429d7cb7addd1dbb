//! The numbers of other tools, from the same two samples: `driftline compare`, and a way to check an answer anywhere.
//!
//! People who move here must find their numbers again, so each tool's convention is kept exactly as its source has it, quirks and
//! NaN included (docs/compare.md). A [`case`] names tool, metric, parameters and input; [`answer`] sends it to the tool's module, which
//! cleans and counts as the tool does and uses the arithmetic of `edges`, `ks`, `tables`, `transport`, `mmd` and `river`. Figures
//! on counts are `driftline_shared::drift::distance`. Nothing here touches clock, disk or random numbers; permutation tests are
//! left out.

pub mod case;
mod deepchecks;
mod deequ;
pub mod edges;
mod evidently;
mod float;
mod input;
pub mod kolmogorov;
mod ks;
mod mmd;
mod nannyml;
mod own;
mod params;
pub mod river;
pub mod sample;
mod scipy;
mod scouter;
mod series;
mod stated;
mod tables;
mod transport;

pub use input::Input;
pub use stated::Stated;

use params::Params;

/// Why there is no answer, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The line is no case.
    #[error("the line is not a case: {0}")]
    Line(String),
    /// No such tool.
    #[error("there is no tool {0}; choose one of {names}", names = Tool::names())]
    Tool(String),
    /// No such metric.
    #[error("there is no metric {0}; choose one of {names}", names = Metric::names())]
    Metric(String),
    /// The tool does not have the metric.
    #[error("{tool} has no {metric}; it is known to {others}")]
    NotOffered {
        /// The tool.
        tool: &'static str,
        /// The metric.
        metric: &'static str,
        /// Who has it.
        others: String,
    },
    /// Parameters or input do not fit.
    #[error("{0}")]
    Input(String),
    /// The tool itself raises an error here.
    #[error("{0}")]
    Peer(String),
}

impl Refusal {
    fn input(why: impl Into<String>) -> Self {
        Self::Input(why.into())
    }

    fn peer(why: impl Into<String>) -> Self {
        Self::Peer(why.into())
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident: $text:literal $(| $alias:literal)*,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the documents.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// By name or by what people also call it; `_`, `-` and case do not matter.
            pub fn by_name(name: &str) -> Option<Self> {
                let plain = name.to_lowercase().replace('-', "_");
                match plain.as_str() { $($text $(| $alias)* => Some(Self::$variant),)* _ => None }
            }

            fn names() -> String {
                Self::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
            }
        }
    };
}

named! {
    /// Whose convention.
    Tool {
        /// Ours.
        Driftline: "driftline",
        /// scipy 1.17 and numpy 2.4.
        Scipy: "scipy" | "numpy" | "scipy.stats",
        /// Evidently 0.7.
        Evidently: "evidently",
        /// NannyML 0.13.
        Nannyml: "nannyml",
        /// Deequ.
        Deequ: "deequ",
        /// deepchecks 0.19.
        Deepchecks: "deepchecks",
        /// scouter-drift 0.25.
        Scouter: "scouter" | "scouter_drift",
        /// river 0.23.
        River: "river",
    }
}

named! {
    /// What is worked out.
    Metric {
        /// Population stability index.
        Psi: "psi",
        /// Jensen-Shannon distance.
        Js: "js_distance" | "js" | "jensenshannon" | "jensen_shannon",
        /// Kullback-Leibler divergence.
        Kl: "kl" | "kl_div" | "entropy" | "kullback_leibler",
        /// Hellinger distance.
        Hellinger: "hellinger",
        /// Two-sample Kolmogorov-Smirnov test.
        Ks: "ks_2samp" | "ks" | "ks_p" | "ks_test",
        /// Kolmogorov-Smirnov D alone.
        KsD: "ks_d" | "kolmogorov_smirnov",
        /// The two-sided one-sample distribution's tail.
        KstwoSf: "kstwo_sf" | "kstwo.sf",
        /// Wasserstein-1 distance.
        Wasserstein: "wasserstein1" | "wasserstein" | "w1" | "wasserstein_distance",
        /// Wasserstein-1 over the reference's standard deviation.
        WassersteinNorm: "wasserstein_norm" | "wasserstein_distance_norm",
        /// Wasserstein-1 of trimmed, scaled samples.
        EmdScaled: "emd_scaled" | "emd" | "earth_movers_distance",
        /// Energy distance.
        Energy: "energy_distance" | "ed" | "energy",
        /// One-sample chi-square test.
        Chisquare: "chisquare_p" | "chisquare" | "chi_square" | "chisquare_test",
        /// Chi-square test of a table.
        Contingency: "chi2_contingency" | "chi2",
        /// Likelihood-ratio test.
        G: "g_test_p" | "g_test" | "g",
        /// Two proportions.
        Z: "z_test_p" | "z_test" | "z",
        /// Largest difference of shares.
        LInfinity: "l_infinity" | "linf" | "linf_simple",
        /// The same less what chance explains.
        LInfinityRobust: "linf_robust" | "l_infinity_robust",
        /// Total variation distance.
        TotalVariation: "total_variation" | "tvd" | "tv",
        /// Bias-corrected Cramér's V.
        CramersV: "cramers_v" | "cramer_v",
        /// Maximum mean discrepancy.
        Mmd: "mmd2_unbiased_rbf" | "mmd2" | "mmd" | "empirical_mmd",
        /// Edges of a histogram.
        Edges: "histogram_bin_edges" | "bin_edges",
        /// Adaptive windowing on a series.
        Adwin: "adwin",
        /// Page-Hinkley test on a series.
        PageHinkley: "page_hinkley" | "pagehinkley",
    }
}

/// One figure of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A number, which may be NaN or infinite.
    Number(f64),
    /// Several.
    Numbers(Vec<f64>),
    /// Positions in a series.
    Indices(Vec<usize>),
}

/// What came out, and by which convention.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Figures by name.
    pub figures: Vec<(&'static str, Figure)>,
    /// How they are to be read.
    pub stated: Stated,
}

impl Answer {
    fn new(figures: &[(&'static str, f64)], stated: Stated) -> Self {
        Self { figures: figures.iter().map(|&(name, v)| (name, Figure::Number(v))).collect(), stated }
    }

    fn value(value: f64, stated: Stated) -> Self {
        Self::new(&[("value", value)], stated)
    }

    /// A named figure, if it is a single number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.figures.iter().find_map(|(n, figure)| match figure {
            Figure::Number(v) if *n == name => Some(*v),
            _ => None,
        })
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose convention.
    pub tool: Tool,
    /// Which figure; the tool's own choice where none is named.
    pub metric: Option<Metric>,
    /// Parameters by name.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The data.
    pub input: Input,
}

/// What a tool has.
pub fn offered(tool: Tool) -> &'static [Metric] {
    match tool {
        Tool::Driftline => Metric::ALL,
        Tool::Scipy => scipy::METRICS,
        Tool::Evidently => evidently::METRICS,
        Tool::Nannyml => nannyml::METRICS,
        Tool::Deequ => deequ::METRICS,
        Tool::Deepchecks => deepchecks::METRICS,
        Tool::Scouter => scouter::METRICS,
        Tool::River => series::METRICS,
    }
}

impl Request {
    /// Names the metric, where none was named: the one that the tool chooses itself for such data, and with it the kind of column that
    /// it takes it for.
    fn choose(&mut self) -> Result<Metric, Refusal> {
        let numeric = self.input.pair.as_ref().is_none_or(|pair| pair.reference.is_numeric());
        let metric = match (self.metric, self.tool, numeric) {
            (Some(named), _, _) => named,
            (None, Tool::Evidently, _) => {
                let (metric, numeric) = evidently::choice(&self.input, &Params::new(&self.params))?;
                // The tests count values anyway; this one would cut many of them into cells.
                if metric == Metric::Js && !numeric {
                    self.params.entry("feature_type").or_insert("cat".into());
                }
                metric
            }
            (None, Tool::Driftline | Tool::Nannyml, _) => Metric::Js,
            (None, Tool::Scipy, true) => Metric::Ks,
            (None, Tool::Scipy, false) => Metric::Contingency,
            (None, Tool::Deequ, _) => Metric::LInfinityRobust,
            (None, Tool::Deepchecks, true) => Metric::KsD,
            (None, Tool::Deepchecks, false) => Metric::CramersV,
            (None, Tool::Scouter, _) => Metric::Psi,
            (None, Tool::River, _) => Metric::Adwin,
        };
        self.metric = Some(metric);
        Ok(metric)
    }
}

/// Answers one request, by the metric it names or by the one that is chosen for it.
pub fn answer(request: &mut Request) -> Result<(Metric, Answer), Refusal> {
    let metric = request.choose()?;
    if !offered(request.tool).contains(&metric) {
        let others = Tool::ALL.iter().filter(|&&t| offered(t).contains(&metric)).map(|t| t.name());
        return Err(Refusal::NotOffered {
            tool: request.tool.name(),
            metric: metric.name(),
            others: others.collect::<Vec<_>>().join(", "),
        });
    }
    let params = Params::new(&request.params);
    // Whether a column is numbers or categories can be said of any metric, and changes few.
    evidently::kind(&params)?;
    let input = &request.input;
    let answer = match request.tool {
        Tool::Driftline => own::answer(metric, input, &params),
        Tool::Scipy => scipy::answer(metric, input, &params),
        Tool::Evidently => evidently::answer(metric, input, &params),
        Tool::Nannyml => nannyml::answer(metric, input, &params),
        Tool::Deequ => deequ::answer(metric, input, &params),
        Tool::Deepchecks => deepchecks::answer(metric, input, &params),
        Tool::Scouter => scouter::answer(metric, input, &params),
        Tool::River => series::answer(metric, input, &params),
    };
    // A parameter that does not exist is said before what its absence may have led to.
    match (&answer, params.finish(metric)) {
        (Ok(_), Err(unknown)) => Err(unknown),
        _ => Ok((metric, answer?)),
    }
}
