//! The commands of the chat. To add one: a row in [`COMMANDS`], and an arm in `chat.rs`.

/// Something that is typed in place of a message.
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// What follows it.
    argument: &'static str,
    /// What it does.
    pub what: &'static str,
}

const fn command(name: &'static str, argument: &'static str, what: &'static str) -> Command {
    Command { name, argument, what }
}

/// The commands of the chat.
pub const COMMANDS: &[Command] = &[
    command("/help", "", "lists the commands"),
    command("/exit", "", "leaves, as /bye and Ctrl-D do"),
    command("/clear", "", "forgets the conversation"),
    command("/regen", "", "answers the last message anew"),
    command("/read", " FILE", "puts a text file before the next message"),
];

impl Command {
    /// How it is typed.
    pub fn usage(&self) -> String {
        format!("{}{}", self.name, self.argument)
    }
}

/// All commands in one line.
pub fn usages() -> String {
    COMMANDS.iter().map(Command::usage).collect::<Vec<_>>().join(", ")
}
