//! The command line, parsed: flags as llama.cpp's users type them, and which words are the model and which the prompt.

use crate::args::Args;
use crate::{argv, foreign, mistake};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Flags of several letters after one dash, and their long names.
const LONG: &[(&str, &str)] = &[
    ("-co", "--color"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-hf", "--hf-repo"),
    ("-hfd", "--hf-repo-draft"),
    ("-hff", "--hf-file"),
    ("-hfr", "--hf-repo"),
    ("-hfrd", "--hf-repo-draft"),
    ("-hft", "--hf-token"),
    ("-jf", "--json-schema-file"),
    ("-md", "--model-draft"),
    ("-ngl", "--gpu-layers"),
    ("-ngld", "--gpu-layers-draft"),
    ("-no-cnv", "--raw"),
    ("-np", "--parallel"),
    ("-nr", "--no-repack"),
    ("-st", "--single-turn"),
    ("-sys", "--system-prompt"),
    ("-tb", "--threads-batch"),
    ("-ub", "--ubatch-size"),
];

/// The request of the command line.
pub enum Parsed {
    /// Run, with the model that was named.
    Run(Box<Args>, Option<PathBuf>),
    /// Print this text and exit.
    Help(String),
    /// A mistake, in one line.
    Wrong(String),
}

/// Reads the command line and the environment.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Parsed {
    let command = Args::command().mut_args(|arg| arg.hide_env_values(true));
    let argv = foreign::set_aside(argv, &command, takes_value);
    let rewritten =
        argv.and_then(|(argv, aside)| Ok((argv::rewrite(argv, &command, LONG)?, aside)));
    let (argv, without_effect) = match rewritten {
        Ok(both) => both,
        Err(line) => return Parsed::Wrong(line),
    };
    let matches = match command.try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Parsed::Help(error.render().to_string()),
        Err(error) => return Parsed::Wrong(mistake::one_line(&error.render().to_string())),
    };
    let mut args = match Args::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => return Parsed::Wrong(mistake::one_line(&error.render().to_string())),
    };
    args.unescape();
    args.without_effect = without_effect;
    match name_model(&mut args, &matches) {
        Ok(model) => Parsed::Run(Box::new(args), model),
        Err(line) => Parsed::Wrong(line),
    }
}

/// The model that a flag or a word names. The other words become the prompt.
fn name_model(args: &mut Args, matches: &ArgMatches) -> Result<Option<PathBuf>, String> {
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let (true, Some(repo)) = (typed("model_draft"), &args.hf_repo_draft) {
        return Err(format!("two drafters are named, -md and -hfd {repo}; name one"));
    }
    // A variable of the environment names a model where nothing else does.
    let (word, flag) = (args.positional.take(), args.model.take());
    let (flag, variable) = if typed("model") { (flag, None) } else { (None, flag) };
    if let (Some(model), Some(repo)) = (&flag, &args.hub.hf_repo) {
        return Err(two_models(&model.display().to_string(), &format!("-hf {repo}")));
    }
    let named = flag.as_ref().map(|model| model.display().to_string());
    let named = named.or_else(|| args.hub.hf_repo.as_ref().map(|repo| format!("-hf {repo}")));
    let other_prompt = ["prompt", "file", "parallel"].into_iter().find(|id| typed(id));
    let is_prompt = |word: &Path| match &named {
        Some(_) => !looks_like_model(word),
        None => variable.is_some() && !looks_like_model(word) && other_prompt.is_none(),
    };
    let (word, first) = match word {
        Some(word) if is_prompt(&word) => (None, word.into_os_string().into_string().ok()),
        word => (word, None),
    };
    if let (Some(first), Some(other)) = (&first, other_prompt) {
        return Err(format!("the prompt {first:?} cannot be used with --{other}; leave one out"));
    }
    let model = match (word, named) {
        (Some(word), Some(named)) if flag.as_ref() != Some(&word) => {
            return Err(two_models(&word.display().to_string(), &named));
        }
        (word, _) => word.or(flag).or(variable),
    };
    let words: Vec<_> = first.into_iter().chain(std::mem::take(&mut args.words)).collect();
    match (&model, &words[..]) {
        (_, []) => {}
        (Some(model), [word]) if looks_like_model(Path::new(word)) => {
            return Err(two_models(&model.display().to_string(), word));
        }
        (_, words) => args.prompt = Some(words.join(" ")),
    }
    Ok(model)
}

/// Whether a word is a model's file by its name, and no prompt. What is no text is no prompt.
fn looks_like_model(word: &Path) -> bool {
    word.to_str().is_none_or(|word| word.ends_with(".gguf") && !word.contains(char::is_whitespace))
}

fn two_models(a: &str, b: &str) -> String {
    format!("two models are named, {a} and {b}; name one")
}

/// Whether an argument is a flag, by any of its names, that takes the next one as its value.
fn takes_value(command: &clap::Command, arg: &OsString) -> bool {
    let long = LONG.iter().find(|(typed, _)| arg == *typed).map(|(_, long)| OsString::from(long));
    argv::takes_value(command, long.as_ref().unwrap_or(arg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escapes::unescape;
    use crate::values::Checked;
    use crate::words::{self, FlagNames};
    use dovetail::infer::{CacheType, CacheTypes};
    use dovetail::{ChatTemplate, Error, Face, Repack, Sampling, SessionOptions, Setting};

    fn run(args: &[&str]) -> Checked<(Box<Args>, Option<PathBuf>)> {
        let argv = std::iter::once("dovetail-run").chain(args.iter().copied()).map(OsString::from);
        match parse(argv) {
            Parsed::Run(args, model) => Ok((args, model)),
            Parsed::Help(text) => Err(text),
            Parsed::Wrong(line) => Err(line),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let (args, model) = run(&[]).unwrap();
        let (ours, theirs) = (args.sampling.sampling(), Sampling::default());
        assert_eq!(
            format!("{:?}", Sampling { seed: 0, ..ours }),
            format!("{:?}", Sampling { seed: 0, ..theirs })
        );
        let SessionOptions { n_ubatch, cache, .. } = args.options().session;
        assert_eq!((args.n_predict(), n_ubatch, model), (usize::MAX, 512, None));
        assert_eq!(args.options().repack, Repack::Auto);
        assert_eq!(cache, CacheTypes::default());
    }

    #[test]
    fn flags_work_as_llama_cpp_users_type_them() {
        let typed = "m.gguf -t 3 -c 64 -n 5 -b 100 -ub 200 -ctk f16 -ctv q8_0 -s 7 --temp 0 -sys a\\tb \
                     -st -r x -r y -co -ngl 99 -no-cnv -nr -e -v -p -1";
        let typed: Vec<_> = typed.split_whitespace().collect();
        let (args, model) = run(&typed).unwrap();
        assert_eq!(model.unwrap(), Path::new("m.gguf"));
        let SessionOptions { n_ctx, threads, n_ubatch, cache } = args.options().session;
        assert_eq!((threads, n_ctx, args.n_predict()), (3, 64, 5));
        assert_eq!((n_ubatch, args.sampling.sampling().seed), (100, 7));
        assert_eq!(cache, CacheTypes { keys: CacheType::F16, values: CacheType::Q8_0 });
        assert_eq!(args.system_prompt.as_deref(), Some("a\tb"));
        assert_eq!(args.prompt.as_deref(), Some("-1"));
        assert_eq!(args.reverse_prompt, ["x", "y"]);
        assert!(args.single_turn && args.color && args.raw && args.verbose);
        assert_eq!(args.options().repack, Repack::Off);
    }

    #[test]
    fn numbers_out_of_range_mean_what_they_mean_in_llama_cpp() {
        let options = |typed: &str| {
            let (args, _) = run(&typed.split_whitespace().collect::<Vec<_>>()).unwrap();
            args.options()
        };
        let cores = dovetail::machine::physical_cores();
        for (typed, threads) in
            [("-t -1", cores), ("-t 0", cores), ("-t 3 -tb -1", 3), ("-t 3 -tb 5", 3)]
        {
            assert_eq!(options(typed).session.threads, threads, "{typed}");
        }
        for (typed, n_ubatch) in [("-ub 0", 2048), ("-ub 0 -b 100", 100), ("-ub -1", 2048)] {
            assert_eq!(options(typed).session.n_ubatch, n_ubatch, "{typed}");
        }
        for (typed, depth, p_min) in [
            ("", None, None),
            ("--draft-max -1 --draft-p-min -1", Some(0), Some(0.0)),
            ("--draft-max 5 --draft-p-min 0.5", Some(5), Some(0.5)),
            ("--draft-min -1", None, None),
        ] {
            let speculation = options(typed).speculation;
            assert_eq!((speculation.depth, speculation.p_min), (depth, p_min), "{typed}");
        }
    }

    #[test]
    fn layers_of_the_drafter_on_a_gpu_are_all_or_none() {
        for (typed, device) in [
            ("", "auto"),
            ("-ngld 0", "cpu"),
            ("-ngld 99", "auto"),
            ("-ngld -1", "auto"),
            ("-ngld all", "auto"),
            ("--gpu-layers-draft auto --draft-device cpu", "cpu"),
            ("--n-gpu-layers-draft 0 --draft-device cpu", "cpu"),
            ("--n-gpu-layers-draft 1 --draft-device auto", "auto"),
        ] {
            let (args, _) = run(&typed.split_whitespace().collect::<Vec<_>>()).unwrap();
            assert_eq!(args.drafting.options().device.to_string(), device, "{typed}");
            assert!(args.drafting.check().is_ok(), "{typed}");
        }
        for (typed, part) in [
            ("-ngld 0 --draft-device gpu", "contradict"),
            ("-ngld 0 --draft-device gpu3", "contradict"),
            ("--draft-device gpu --spec-sampling rejection", "drafts on the CPU"),
            (
                "--draft-device gpu --spec-sampling rejection",
                "--spec-sampling rejection drafts on the CPU; leave it out or --draft-device gpu \
                 (DOVETAIL_DRAFT_DEVICE)",
            ),
            (
                "--tree cost --spec-sampling rejection",
                "--tree cost (DOVETAIL_TREE) cuts trees, and sampled draft tokens may not be cut; leave \
                 it out or --spec-sampling rejection",
            ),
            ("--draft-device gpu --spec-type ngram", "the kind ngram run on the CPU"),
            ("--draft-device gpu1 --spec-type lm", "leave out --draft-device gpu1"),
        ] {
            let (args, _) = run(&typed.split_whitespace().collect::<Vec<_>>()).unwrap();
            let error = args.drafting.check().unwrap_err();
            assert!(error.is_usage() && words::line(&error).contains(part), "{typed}: {error}");
        }
    }

    #[test]
    fn wrong_values_are_one_line_with_the_next_step() {
        for (typed, part) in [
            ("-t 1025", "from 1 to 1024"),
            ("-t x", "from 1 to 1024"),
            ("-tb x", "from 1 to 1024"),
            ("-c -1", "0 for the model's own"),
            ("-np 17", "from 1 to 16"),
            ("-np 2 -p x", "cannot be used with"),
            ("-n x", "-1 for no limit"),
            ("-ub 65537", "from 1 to 65536"),
            ("-b 0", "from 1 to 65536"),
            ("--temp inf", "0 or a positive number"),
            ("--temp nan", "0 or a positive number"),
            ("--top-p x", "from 0 to 1"),
            ("--min-p nan", "from 0 to 1"),
            ("--draft-max 64", "0..=63"),
            ("--draft-p-min 1.5", "from 0 to 1"),
            ("--repeat-penalty 0", "positive"),
            ("--repeat-last-n -2", "-1 for all"),
            ("-s x", "-1 for a random one"),
            ("-s 18446744073709551616", "-1 for a random one"),
            ("-ctk q4_1", "f16, q8_0, f32, bf16, q5_1 or q4_0"),
            ("--spec-type magic", ", none, auto"),
            ("--tree beam:9,9,9", "chain:K"),
            ("--draft-device cuda0", "auto, cpu, gpu, and gpu0"),
            ("--draft-device gpu-1", "auto, cpu, gpu, and gpu0"),
            ("--vram-limit 0", "not in 1.."),
            ("--vram-limit 3GB", "invalid digit"),
            ("-ngld most", "a number, auto or all"),
            ("--repack maybe", "auto, cache, memory or off"),
            ("--repack cache -nr", "cannot be used with"),
            ("a.gguf -m b.gguf", "name one"),
            ("a.gguf b.gguf", "name one"),
            ("a.gguf Hi -p there", "cannot be used with"),
            ("-m a.gguf Hi -p there", "the prompt \"Hi\" cannot be used with --prompt"),
            ("-m a.gguf Hi -f there", "cannot be used with --file"),
            ("-hf a/b Hi -np 2", "cannot be used with --parallel"),
            ("-m a.gguf -hf a/b", "two models are named, a.gguf and -hf a/b; name one"),
            ("a.gguf -hf a/b", "two models are named, a.gguf and -hf a/b; name one"),
            ("-hf a", "give USER/REPO or USER/REPO:QUANT"),
            ("-hff a.gguf", "--hf-repo"),
            ("-hfd a/b -md c.gguf", "two drafters are named, -md and -hfd a/b; name one"),
            ("-p a -f b", "cannot be used with"),
            ("-mx d.gguf", "-mx is no flag"),
            ("--tempo 1", "'--temp'"),
            ("-t", "a value is required"),
        ] {
            let line = run(&typed.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{typed}: {line}");
        }
        assert!(run(&["a.gguf", "-m", "a.gguf"]).is_ok());
    }

    #[test]
    fn escapes_are_llama_cpps() {
        for (text, expected) in [
            (r"a\nb\tc\\n\'\x41\q\", "a\nb\tc\\n'A\\q\\"),
            (r"\x4", r"\x4"),
            (r"\xzz\xéé", r"\xzz\xéé"),
            ("plain", "plain"),
        ] {
            assert_eq!(unescape(text), expected);
        }
        let (args, _) = run(&["--no-escape", "-p", r"a\n"]).unwrap();
        assert_eq!(args.prompt.as_deref(), Some(r"a\n"));
    }

    fn rewritten(args: &[&str]) -> Checked<Vec<String>> {
        let argv = std::iter::once("dovetail-run").chain(args.iter().copied()).map(OsString::from);
        let out = argv::rewrite(argv, &Args::command(), LONG)?;
        Ok(out.into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn aliases_are_shown_once() {
        for arg in Args::command().get_arguments() {
            let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
            for alias in arg.get_visible_aliases().unwrap_or_default() {
                assert!(!help.contains(&format!("--{alias}")), "{alias} in {help:?}");
            }
        }
    }

    #[test]
    fn words_behind_the_model_are_the_prompt() {
        for (typed, model, prompt) in [
            (&["m.gguf", "--temp", "0", "Hi", r"a\n", "-v"][..], Some("m.gguf"), r"Hi a\n"),
            (&["-m", "m.gguf", "Hi"], Some("m.gguf"), "Hi"),
            (&["Hi", "-m", "m.gguf", "there"], Some("m.gguf"), "Hi there"),
            (&["-m", "m.gguf", "m.gguf", "Hi"], Some("m.gguf"), "Hi"),
            (&["-hf", "u/r", "Why?"], None, "Why?"),
            (&["m.gguf", "What is in model.gguf"], Some("m.gguf"), "What is in model.gguf"),
            (&["-m", "m.gguf", "What is in model.gguf"], Some("m.gguf"), "What is in model.gguf"),
            (&["my model.gguf", "Hi"], Some("my model.gguf"), "Hi"),
        ] {
            let (args, named) = run(typed).unwrap();
            assert_eq!(args.prompt.as_deref(), Some(prompt), "{typed:?}");
            assert_eq!(named.as_deref(), model.map(Path::new), "{typed:?}");
        }
    }

    #[test]
    fn every_row_names_a_flag() {
        let command = Args::command();
        for (typed, long) in LONG {
            let known = command.get_arguments().any(|a| a.get_long() == long.strip_prefix("--"));
            assert!(known, "{typed} stands for {long}, which is no flag");
        }
    }

    #[test]
    fn errors_name_flags_of_this_program() {
        let command = Args::command();
        for setting in Setting::ALL {
            let name = FlagNames.name(*setting);
            let long = LONG.iter().find(|(typed, _)| *typed == name).map_or(name, |(_, long)| long);
            let known = command.get_arguments().any(|a| a.get_long() == long.strip_prefix("--"));
            assert!(known, "{setting:?} is {name}, which is no flag");
        }
        for (error, line) in [
            (
                Error::Context { needed: 9, available: 8 },
                "9 tokens do not fit the context of 8; shorten the prompt or raise --ctx-size",
            ),
            (
                Error::Memory {
                    n_ctx: 9,
                    sequences: 2,
                    needed_bytes: 5 << 30,
                    free_bytes: Some(1 << 30),
                },
                "a context of 9 tokens for each sequence takes 5.37 GB and 1.07 GB are free; choose a smaller one \
                 with --ctx-size",
            ),
            (
                Error::DeviceMemory { limit_bytes: 7 << 20 },
                "the drafter needs more than the 7 MiB of GPU memory that it may take; raise --vram-limit or \
                 choose a smaller drafter",
            ),
            (
                ChatTemplate::from_source("{{ broken").unwrap_err(),
                "; give another with --chat-template NAME or --chat-template-file FILE or a plain prompt",
            ),
            (ChatTemplate::named("x").unwrap_err(), "; give another with --chat-template NAME or"),
        ] {
            assert!(words::line(&error).contains(line), "{}", words::line(&error));
        }
    }

    #[test]
    fn flags_are_replaced_and_values_are_not() {
        for (typed, expected) in [
            (&["-ngl", "99"][..], &["--gpu-layers", "99"][..]),
            (&["m.gguf", "-st", "-co"], &["m.gguf", "--single-turn", "--color"]),
            (&["-p", "-st", "-st"], &["-p", "-st", "--single-turn"]),
            (&["-sys", "-co", "-ub", "7"], &["--system-prompt", "-co", "--ubatch-size", "7"]),
            (&["--prompt", "-hf"], &["--prompt", "-hf"]),
            (&["--prompt=a", "-tb", "2"], &["--prompt=a", "--threads-batch", "2"]),
            (&["-t4", "-ctk", "f16"], &["-t4", "--cache-type-k", "f16"]),
            (&["--", "-st"], &["--", "-st"]),
            (&["-p"], &["-p"]),
        ] {
            assert_eq!(rewritten(typed).unwrap(), expected);
        }
        for typed in [&["-mx", "x"][..], &["-p", "a", "-cnv"], &["-ev"]] {
            assert!(rewritten(typed).unwrap_err().contains("is no flag"), "{typed:?}");
        }
    }
}
