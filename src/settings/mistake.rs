//! Mistakes in settings, and the sources of values.

use std::fmt;
use std::sync::Arc;

/// The source of a value. The variants are ordered from the weakest to the strongest.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The value is the default.
    #[default]
    Default,
    /// The file sets it.
    File {
        /// Name of the file.
        name: Arc<str>,
        /// Line of the key, counted from 1.
        line: usize,
    },
    /// The environment variable with this name sets it.
    Variable(String),
    /// The flag with this name sets it.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Source of the wrong value. It is [`Source::Default`] if a default does not fit another value.
    pub source: Source,
    /// Key, such as `session.link_timeout`, or `None` if the mistake is not in the value of a key.
    pub key: Option<String>,
    /// What is wrong, and what the value must be.
    pub text: String,
    /// Names of the environment variable and the flag that set the key and are stronger than the source.
    pub stronger: Vec<String>,
}

impl Mistake {
    pub(super) fn new(source: Source, text: String) -> Self {
        Self { source, key: None, text, stronger: Vec::new() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source == Source::Default {
            f.write_str(&self.text)?;
        } else {
            write!(f, "{}: {}", self.source, self.text)?;
        }
        if !self.stronger.is_empty() {
            let verb = if self.source == Source::Default { "sets it" } else { "overrides it" };
            write!(f, "; {} {verb}", self.stronger.join(" or "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistake {}

/// All mistakes in the settings. Each is displayed on a line of its own: first those of the file in the order of its
/// lines, then those of variables, flags and defaults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Returns these mistakes, sorted as they are displayed.
    #[must_use]
    pub fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by(|one, other| place(one).cmp(&place(other)));
        Self(mistakes)
    }

    /// Returns the mistakes.
    #[must_use]
    pub fn as_slice(&self) -> &[Mistake] {
        &self.0
    }
}

/// Returns the key by which mistakes are sorted. Mistakes of the file come first, and those of defaults last.
fn place(mistake: &Mistake) -> (bool, &Source) {
    (mistake.source == Source::Default, &mistake.source)
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            if at == MISTAKES_MAX {
                return write!(f, "{separator}and {} more mistakes", self.0.len() - at);
            }
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

/// Maximum number of mistakes that are displayed. For further mistakes, no similar name is searched.
pub const MISTAKES_MAX: usize = 100;
