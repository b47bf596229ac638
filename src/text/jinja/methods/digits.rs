//! Characters that stand for numbers, by Unicode's property `Numeric_Type`, as Python's `str.isdecimal` and the like have it.
//!
//! The standard library only knows the general categories of numbers. From Unicode 14.0.0.

/// Whether it is a digit from 0 to 9 of some script.
pub fn is_decimal(character: char) -> bool {
    let at = ZEROS.partition_point(|zero| *zero <= character);
    at > 0 && character as u32 - (ZEROS[at - 1] as u32) < 10
}

/// Whether it is a digit, perhaps raised or in a circle.
pub fn is_digit(character: char) -> bool {
    is_decimal(character) || is_within(&DIGITS, character)
}

/// Whether it stands for a number: a digit, a fraction, or one that is written as a word.
pub fn is_numeric(character: char) -> bool {
    character.is_numeric() || is_within(&WORDS, character)
}

fn is_within(ranges: &[(char, char)], character: char) -> bool {
    let at = ranges.partition_point(|(_, last)| *last < character);
    ranges.get(at).is_some_and(|(first, _)| *first <= character)
}

/// The zeros of all scripts; the other digits stand behind them.
#[rustfmt::skip]
const ZEROS: [char; 66] = [
    '\u{30}', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}',
    '\u{b66}', '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}',
    '\u{f20}', '\u{1040}', '\u{1090}', '\u{17e0}', '\u{1810}', '\u{1946}', '\u{19d0}',
    '\u{1a80}', '\u{1a90}', '\u{1b50}', '\u{1bb0}', '\u{1c40}', '\u{1c50}', '\u{a620}',
    '\u{a8d0}', '\u{a900}', '\u{a9d0}', '\u{a9f0}', '\u{aa50}', '\u{abf0}', '\u{ff10}',
    '\u{104a0}', '\u{10d30}', '\u{11066}', '\u{110f0}', '\u{11136}', '\u{111d0}', '\u{112f0}',
    '\u{11450}', '\u{114d0}', '\u{11650}', '\u{116c0}', '\u{11730}', '\u{118e0}', '\u{11950}',
    '\u{11c50}', '\u{11d50}', '\u{11da0}', '\u{16a60}', '\u{16ac0}', '\u{16b50}', '\u{1d7ce}',
    '\u{1d7d8}', '\u{1d7e2}', '\u{1d7ec}', '\u{1d7f6}', '\u{1e140}', '\u{1e2f0}', '\u{1e950}',
    '\u{1fbf0}',
];

/// Digits that are not decimal.
#[rustfmt::skip]
const DIGITS: [(char, char); 20] = [
    ('\u{b2}', '\u{b3}'), ('\u{b9}', '\u{b9}'), ('\u{1369}', '\u{1371}'),
    ('\u{19da}', '\u{19da}'), ('\u{2070}', '\u{2070}'), ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'), ('\u{2460}', '\u{2468}'), ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'), ('\u{24ea}', '\u{24ea}'), ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'), ('\u{2776}', '\u{277e}'), ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'), ('\u{10a40}', '\u{10a43}'), ('\u{10e60}', '\u{10e68}'),
    ('\u{11052}', '\u{1105a}'), ('\u{1f100}', '\u{1f10a}'),
];

/// Numbers that are letters.
#[rustfmt::skip]
const WORDS: [(char, char); 72] = [
    ('\u{3405}', '\u{3405}'), ('\u{3483}', '\u{3483}'), ('\u{382a}', '\u{382a}'),
    ('\u{3b4d}', '\u{3b4d}'), ('\u{4e00}', '\u{4e00}'), ('\u{4e03}', '\u{4e03}'),
    ('\u{4e07}', '\u{4e07}'), ('\u{4e09}', '\u{4e09}'), ('\u{4e5d}', '\u{4e5d}'),
    ('\u{4e8c}', '\u{4e8c}'), ('\u{4e94}', '\u{4e94}'), ('\u{4e96}', '\u{4e96}'),
    ('\u{4ebf}', '\u{4ec0}'), ('\u{4edf}', '\u{4edf}'), ('\u{4ee8}', '\u{4ee8}'),
    ('\u{4f0d}', '\u{4f0d}'), ('\u{4f70}', '\u{4f70}'), ('\u{5104}', '\u{5104}'),
    ('\u{5146}', '\u{5146}'), ('\u{5169}', '\u{5169}'), ('\u{516b}', '\u{516b}'),
    ('\u{516d}', '\u{516d}'), ('\u{5341}', '\u{5341}'), ('\u{5343}', '\u{5345}'),
    ('\u{534c}', '\u{534c}'), ('\u{53c1}', '\u{53c4}'), ('\u{56db}', '\u{56db}'),
    ('\u{58f1}', '\u{58f1}'), ('\u{58f9}', '\u{58f9}'), ('\u{5e7a}', '\u{5e7a}'),
    ('\u{5efe}', '\u{5eff}'), ('\u{5f0c}', '\u{5f0e}'), ('\u{5f10}', '\u{5f10}'),
    ('\u{62fe}', '\u{62fe}'), ('\u{634c}', '\u{634c}'), ('\u{67d2}', '\u{67d2}'),
    ('\u{6f06}', '\u{6f06}'), ('\u{7396}', '\u{7396}'), ('\u{767e}', '\u{767e}'),
    ('\u{8086}', '\u{8086}'), ('\u{842c}', '\u{842c}'), ('\u{8cae}', '\u{8cae}'),
    ('\u{8cb3}', '\u{8cb3}'), ('\u{8d30}', '\u{8d30}'), ('\u{9621}', '\u{9621}'),
    ('\u{9646}', '\u{9646}'), ('\u{964c}', '\u{964c}'), ('\u{9678}', '\u{9678}'),
    ('\u{96f6}', '\u{96f6}'), ('\u{f96b}', '\u{f96b}'), ('\u{f973}', '\u{f973}'),
    ('\u{f978}', '\u{f978}'), ('\u{f9b2}', '\u{f9b2}'), ('\u{f9d1}', '\u{f9d1}'),
    ('\u{f9d3}', '\u{f9d3}'), ('\u{f9fd}', '\u{f9fd}'), ('\u{20001}', '\u{20001}'),
    ('\u{20064}', '\u{20064}'), ('\u{200e2}', '\u{200e2}'), ('\u{20121}', '\u{20121}'),
    ('\u{2092a}', '\u{2092a}'), ('\u{20983}', '\u{20983}'), ('\u{2098c}', '\u{2098c}'),
    ('\u{2099c}', '\u{2099c}'), ('\u{20aea}', '\u{20aea}'), ('\u{20afd}', '\u{20afd}'),
    ('\u{20b19}', '\u{20b19}'), ('\u{22390}', '\u{22390}'), ('\u{22998}', '\u{22998}'),
    ('\u{23b1b}', '\u{23b1b}'), ('\u{2626d}', '\u{2626d}'), ('\u{2f890}', '\u{2f890}'),
];
