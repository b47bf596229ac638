//! Names of settings in the programs' errors, values that both programs parse, and exit codes.

use dovetail::Error;
use dovetail::setting::{Choice, Face, Setting};
use std::process::ExitCode;

/// The names of settings in errors: those of flags.
pub struct FlagNames;

impl Face for FlagNames {
    fn name(&self, setting: Setting) -> &'static str {
        match setting {
            Setting::Repack => "--repack",
            Setting::NoMmap => "--no-mmap",
            Setting::Mlock => "--mlock",
            Setting::ChatTemplate => "--chat-template",
            Setting::Threads => "--threads",
            Setting::ContextSize => "--ctx-size",
            Setting::RopeScale => "--rope-scale",
            Setting::PassSize => "--ubatch-size",
            Setting::CacheTypeK => "--cache-type-k",
            Setting::CacheTypeV => "--cache-type-v",
            Setting::Temperature => "--temp",
            Setting::TopP => "--top-p",
            Setting::MinP => "--min-p",
            Setting::RepeatPenalty => "--repeat-penalty",
            Setting::RepeatLastN => "--repeat-last-n",
            Setting::PresencePenalty => "--presence-penalty",
            Setting::FrequencyPenalty => "--frequency-penalty",
            Setting::SpecType => "--spec-type",
            Setting::DraftModel => "-md",
            Setting::Tree => "--tree",
            Setting::SpecSampling => "--spec-sampling",
            Setting::DraftDepth => "--spec-draft-n-max",
            Setting::DraftPMin => "--spec-draft-p-min",
            Setting::DraftDevice => "--draft-device",
            Setting::DeviceList => "--list-devices",
            Setting::VramLimit => "--vram-limit",
            Setting::HubFile => "--hf-file",
            Setting::HubToken => "--hf-token",
            Setting::Offline => "--offline",
            Setting::ModelList => "--list-models",
        }
    }

    fn usage(&self, setting: Setting) -> String {
        let value = match setting {
            Setting::DraftModel | Setting::HubFile => " FILE",
            Setting::HubToken => " TOKEN",
            Setting::ChatTemplate => " NAME or --chat-template-file FILE",
            _ => "",
        };
        format!("{}{value}", self.name(setting))
    }

    /// The flag, its value, and the environment variable that may have set it.
    fn choice(&self, choice: &Choice) -> String {
        let name = self.name(choice.setting);
        let Some(value) = &choice.value else { return name.into() };
        let variable = match choice.setting {
            Setting::DraftModel => " (DOVETAIL_MODEL_DRAFT)",
            Setting::Tree => " (DOVETAIL_TREE)",
            Setting::DraftDevice => " (DOVETAIL_DRAFT_DEVICE)",
            _ => "",
        };
        format!("{name} {value}{variable}")
    }
}

/// The line of an error.
pub fn line(error: &Error) -> String {
    error.line(&FlagNames)
}

/// Parses the value of a numeric setting.
///
/// # Errors
/// A text that says what to give instead.
pub fn number(setting: Setting, text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().unwrap_or(f32::NAN);
    setting.check(value).map(|()| value).map_err(|refusal| refusal.help(&FlagNames))
}

/// Parses the value of an integer setting.
///
/// # Errors
/// A text that says what to give instead.
pub fn whole(setting: Setting, text: &str) -> Result<i64, String> {
    let value = text.parse::<i64>().ok();
    let checked = setting.check(value.map_or(f64::NAN, |n| n as f64));
    checked.map(|()| value.unwrap_or_default()).map_err(|refusal| refusal.help(&FlagNames))
}

/// Parses a number of threads; as in llama.cpp 0 and negative ones stand for the usual number.
///
/// # Errors
/// A text that says what to give instead.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(..=0) => Ok(dovetail::machine::physical_cores()),
        _ => whole(Setting::Threads, text).map(|n| n as usize),
    }
}

/// A switch, as the environment has it.
///
/// # Errors
/// A text that says what to give instead.
pub fn switch(text: &str) -> Result<bool, String> {
    match &text.to_ascii_lowercase()[..] {
        "1" | "on" | "true" | "yes" => Ok(true),
        "0" | "off" | "false" | "no" | "" => Ok(false),
        _ => Err("give 1, on, true or yes, or else 0, off, false or no".into()),
    }
}

/// The exit code of a failed program: 2 if the caller has to change something, else 1.
pub fn exit_code(error: &Error) -> ExitCode {
    ExitCode::from(if error.is_usage() { 2 } else { 1 })
}
