//! What can be wrong with a source and with a row, in one sentence each.

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No header or no object.
    #[error("{path} is empty: give a source with {wanted}")]
    Empty {
        /// The source.
        path: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A header and nothing else.
    #[error("{path} has no rows: give at least one sample")]
    NoRows {
        /// The source.
        path: String,
    },
    /// A column the model needs is not there.
    #[error(
        "{path} has no column {column}, which the model takes as input: add it, or use the model made for this data"
    )]
    MissingColumn {
        /// The source.
        path: String,
        /// The column.
        column: String,
    },
    /// The column with the samples' ids is not there.
    #[error("{path} has no column {column}, which source.id names: add it, or leave the key out to number the samples")]
    MissingId {
        /// The source.
        path: String,
        /// The column.
        column: String,
    },
    /// A column the model needs is there twice.
    #[error("{path} has column {column} more than once: remove or rename one of them")]
    RepeatedColumn {
        /// The source.
        path: String,
        /// The column.
        column: String,
    },
    /// It cannot be opened or read.
    #[error("{path} cannot be read ({source}): check that it exists and that this user may read it")]
    Read {
        /// The source.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The column with the time is not there.
    #[error("{path} has no column {column}, which source.time names: add it, or leave the key out and give rate_hz")]
    MissingTime {
        /// The source.
        path: String,
        /// The column.
        column: String,
    },
    /// The inference server cannot listen.
    #[error(
        "applications cannot be served at {address} ({source}): choose another source.listen, or stop what is there"
    )]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file with a secret.
    #[error("the token file {path} cannot be read ({source}): create it and let this user read it")]
    Token {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that does not start.
    #[error("the program {program} cannot be started ({source}): check source.command and that this user may run it")]
    Command {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder of images for a model that takes none.
    #[error(
        "{path} is a folder of images, and the model takes none: choose another source, or make its baseline from images"
    )]
    NoImages {
        /// The folder.
        path: String,
    },
    /// A signal has an order.
    #[error("{path} holds a signal, which means nothing in another order: use order = \"file\"")]
    Shuffled {
        /// The source.
        path: String,
    },
    /// Too much to shuffle in memory.
    #[error("{path} has more than {max} values, too many to shuffle in memory: use order = \"file\"")]
    TooLarge {
        /// The source.
        path: String,
        /// The limit.
        max: usize,
    },
}

/// Why a row is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Too few or too many cells.
    #[error("the row has {found} columns where the header has {wanted}")]
    Columns {
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        wanted: usize,
    },
    /// Text where a number belongs.
    #[error("column {column} holds {text:?}, which is no number")]
    NotANumber {
        /// The column.
        column: String,
        /// What it holds, cut.
        text: String,
    },
    /// No image, or one beyond the limits.
    #[error("{path} is not used ({reason})")]
    Image {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The line is no JSON object.
    #[error("the line is no JSON object")]
    NotAnObject,
    /// The object has none of the inputs.
    #[error("the object has none of the model's inputs")]
    NoInputs,
}
