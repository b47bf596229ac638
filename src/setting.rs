//! What callers choose, as errors speak of it.
//!
//! A [`Face`], such as a program or the interface for C, says what its users call a setting; errors are made of
//! [`Setting`]s, and know no names of flags or fields. To add one: a row in the table here, and one in the table of each
//! face, which the compiler asks for.

use std::fmt;

/// A setting that cannot be as it is, or not beside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The setting.
    pub choice: Choice,
    /// What is wrong.
    what: What,
    /// What helps: one of these.
    pub advice: Vec<Advice>,
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Words behind the setting's name: "takes no file".
    Predicate(String),
    /// A sentence of its own.
    Sentence(String),
}

/// A setting, and the value that it has if that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The setting.
    pub setting: Setting,
    /// Its value, as it was given.
    pub value: Option<String>,
}

/// Something that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Do without a setting.
    LeaveOut(Choice),
    /// Give a number a larger value.
    Raise(Setting),
    /// Give a number a smaller value.
    Lower(Setting),
    /// Name what is missing.
    Name(Setting),
    /// Give another one in place of what cannot be used.
    Replace(Setting),
    /// Give what somebody asks for.
    Give(Setting),
    /// Ask what there is.
    See(Setting),
    /// Something that is no setting.
    Do(String),
}

macro_rules! settings {
    ($($name:ident $plain:literal,)*) => {
        /// What a caller chooses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Setting {
            $(#[doc = concat!("The ", $plain, ".")] $name,)*
        }

        impl Setting {
            /// All of them.
            pub const ALL: &[Setting] = &[$(Setting::$name),*];

            fn plain(self) -> &'static str {
                match self {
                    $(Setting::$name => concat!("the ", $plain),)*
                }
            }
        }
    };
}

settings! {
    Repack "place of packed weights",
    NoMmap "wish to map no file",
    Mlock "wish to keep weights in memory",
    ChatTemplate "chat template",
    Threads "number of threads",
    ContextSize "context size",
    RopeScale "factor of positions",
    PassSize "number of tokens of a pass",
    CacheTypeK "type of cached keys",
    CacheTypeV "type of cached values",
    Temperature "temperature",
    TopP "top-p",
    MinP "min-p",
    RepeatPenalty "repeat penalty",
    RepeatLastN "number of recent tokens",
    PresencePenalty "presence penalty",
    FrequencyPenalty "frequency penalty",
    SpecType "kind of drafter",
    DraftModel "file of the drafter",
    Tree "size of trees",
    SpecSampling "rule of acceptance",
    DraftDepth "largest number of draft tokens on a path",
    DraftPMin "least probability of a draft token",
    DraftDevice "device of the drafter",
    DeviceList "list of devices",
    VramLimit "limit of the GPU's memory",
    HubFile "file of a repository",
    HubToken "token for the hub",
    Offline "wish to ask no hub",
    ModelList "list of models on the disk",
}

/// What its users call settings.
pub trait Face {
    /// A setting: `--ctx-size`, `n_ctx`.
    fn name(&self, setting: Setting) -> &'static str;

    /// How it is given a value: `--model-draft FILE`.
    fn usage(&self, setting: Setting) -> String {
        self.name(setting).to_owned()
    }

    /// A setting with its value.
    fn choice(&self, choice: &Choice) -> String {
        let name = self.name(choice.setting);
        choice.value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name} {value}"))
    }
}

/// The face of those who use the library in Rust: plain words.
pub struct Plain;

impl Face for Plain {
    fn name(&self, setting: Setting) -> &'static str {
        setting.plain()
    }

    fn usage(&self, setting: Setting) -> String {
        format!("the option for {}", setting.plain())
    }

    fn choice(&self, choice: &Choice) -> String {
        let name = self.name(choice.setting);
        choice.value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name} ({value})"))
    }
}

impl Setting {
    /// The setting with this value.
    pub fn with(self, value: impl fmt::Display) -> Choice {
        Choice { setting: self, value: Some(value.to_string()) }
    }

    /// Whether a number can be its value.
    ///
    /// # Errors
    /// When it is out of range; the refusal says what to give.
    pub fn check<T: Copy + Into<f64> + fmt::Display>(self, value: T) -> Result<(), Refusal> {
        let x = value.into();
        let (fits, give) = match self {
            Setting::Threads => ((1.0..=1024.0).contains(&x), "a number of threads from 1 to 1024"),
            Setting::PassSize => {
                ((1.0..=65_536.0).contains(&x), "a number of tokens from 1 to 65536")
            }
            Setting::Temperature => (x >= 0.0, "0 or a positive number"),
            Setting::TopP | Setting::MinP | Setting::DraftPMin => {
                ((0.0..=1.0).contains(&x), "a number from 0 to 1")
            }
            Setting::RepeatPenalty => (x > 0.0, "a positive number; 1 changes nothing"),
            Setting::RepeatLastN => {
                let range = -1.0..=f64::from(i32::MAX);
                (range.contains(&x), "a number of tokens, 0 for none or -1 for all")
            }
            _ => (true, "a number; 0 changes nothing"),
        };
        if fits && x.is_finite() {
            return Ok(());
        }
        let refusal = self.with(value).refuse("is out of range");
        Err(refusal.or(Advice::Do(format!("give {give}"))))
    }
}

impl From<Setting> for Choice {
    fn from(setting: Setting) -> Choice {
        Choice { setting, value: None }
    }
}

impl Choice {
    /// Refuses it with words that stand behind its name.
    pub(crate) fn refuse(self, predicate: impl Into<String>) -> Refusal {
        Refusal { choice: self, what: What::Predicate(predicate.into()), advice: Vec::new() }
    }

    /// Refuses it with a sentence of its own, which does not name it.
    pub(crate) fn refuse_since(self, sentence: impl Into<String>) -> Refusal {
        Refusal { choice: self, what: What::Sentence(sentence.into()), advice: Vec::new() }
    }
}

impl Refusal {
    /// The same with something more that helps.
    pub(crate) fn or(mut self, advice: Advice) -> Refusal {
        self.advice.push(advice);
        self
    }

    /// The same, where leaving out a setting helps.
    pub(crate) fn or_leave_out(self, choice: impl Into<Choice>) -> Refusal {
        self.or(Advice::LeaveOut(choice.into()))
    }

    /// What is wrong, without what helps.
    pub(crate) fn what(&self, face: &dyn Face) -> String {
        match &self.what {
            What::Predicate(what) => format!("{} {what}", face.choice(&self.choice)),
            What::Sentence(what) => what.clone(),
        }
    }

    /// What helps.
    pub fn help(&self, face: &dyn Face) -> String {
        let subject = matches!(self.what, What::Predicate(_)).then_some(&self.choice);
        Advice::line(&self.advice, face, subject)
    }
}

impl Advice {
    fn words(&self, face: &dyn Face) -> String {
        match self {
            Advice::LeaveOut(choice) => format!("leave out {}", face.choice(choice)),
            Advice::Raise(setting) => format!("raise {}", face.name(*setting)),
            Advice::Lower(setting) => format!("choose a smaller one with {}", face.usage(*setting)),
            Advice::Name(setting) => format!("name it with {}", face.usage(*setting)),
            Advice::Replace(setting) => format!("give another with {}", face.usage(*setting)),
            Advice::Give(setting) => format!("give one with {}", face.usage(*setting)),
            Advice::See(setting) => format!("{} shows what there is", face.name(*setting)),
            Advice::Do(what) => what.clone(),
        }
    }

    /// Some, of which one helps. `subject` is what the sentence before begins with: "it".
    pub(crate) fn line(all: &[Advice], face: &dyn Face, subject: Option<&Choice>) -> String {
        let follows_another = |i: usize| i > 0 && matches!(all[i - 1], Advice::LeaveOut(_));
        let words = all.iter().enumerate().map(|(i, advice)| match advice {
            Advice::LeaveOut(choice) if subject == Some(choice) => "leave it out".into(),
            Advice::LeaveOut(choice) if follows_another(i) => face.choice(choice),
            advice => advice.words(face),
        });
        words.collect::<Vec<_>>().join(" or ")
    }
}
