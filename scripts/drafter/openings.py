"""How user turns begin. The target writes them on, so that the text a drafter learns from has the tasks that
people set, while every word of it is either ours or the target's.

An opening never ends in a space: the next token brings its own. `{name}` stands for one of LISTS[name].
"""
import random
import re
from dataclasses import dataclass

LISTS = {
    "name": "Anna Omar Lucy Peter Mei Carlos Fatima George Ruth Ivan Priya Jack Nora Samuel Elena Tom Zoe Henry Aisha Leo "
            "Martha Ben Keiko Paul Grace Victor Sofia Daniel Chloe Hassan".split(),
    "n": [str(n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 18, 20, 24, 25, 30, 36, 40, 45, 50, 60, 75, 80, 100, 120, 150, 200, 360)],
    "thing": "apples|books|marbles|stickers|cookies|pencils|eggs|tickets|chairs|bottles of water|roses|boxes|coins|toy cars|"
             "sandwiches|stamps|buttons|candles|shirts|bags of flour".split("|"),
    "place": "a bakery|a farm|a school|a library|a factory|a garden centre|a cinema|a shop|a restaurant|an office|a zoo|"
             "a train station|a hospital|a market|a football club".split("|"),
    "topic": "renewable energy|the history of railways|healthy food|remote work|friendship|artificial intelligence|gardening|"
             "volcanoes|the oceans|ancient Rome|space travel|time management|music|bees|photography|climate change|chess|"
             "public speaking|coffee|the human heart|democracy|vaccines|electric cars|poetry|the stock market|sleep|"
             "the French Revolution|black holes|yoga|online privacy|bridges|learning a language|the immune system|"
             "medieval castles|supply chains|tourism|recycling|earthquakes|a small business|road safety".split("|"),
    "language": "Python|Python|Python|JavaScript|C++|Java|Rust|SQL|HTML and CSS|Go|C|a Bash script|TypeScript".split("|"),
    "task": "sorts a list of|counts|removes duplicates from|finds the largest of|merges two lists of|reads a file of|validates|"
            "prints a table of|searches|reverses|groups|computes the average of|parses|converts|checks|caches|encrypts|filters".split("|"),
    "data": "numbers|words|dates|strings|e-mail addresses|student marks|orders|temperatures|file names|matrices|a linked list|"
            "a binary tree|a graph|prime numbers|log lines|JSON records|bank accounts|playing cards".split("|"),
    "person": "a pirate|a museum guide|a doctor|a strict teacher|a travel agent|a job interviewer|a detective|a football coach|"
              "a chef|a medieval knight|a scientist on Mars|a grandmother|a lawyer|a radio host|a robot|a philosopher".split("|"),
    "text": "a short story|a poem|an e-mail|a speech|a blog post|a product description|a letter|a news report|an essay|"
            "a dialogue|a song|a review|a diary entry|a press release|an outline|an advertisement|a fairy tale".split("|"),
}

GERMAN = """Die Regierung hat|Nach dem Spiel sagte der Trainer|Am Montag|Der Minister erklärte|Viele Menschen|In der Stadt|Die Polizei|
Das Unternehmen will|Wir haben gestern|Seit Jahren|Der Präsident|Es ist wichtig|Die neue Studie zeigt|Wenn das Wetter|Meine Schwester|
Im vergangenen Jahr|Die Kinder|Laut einem Bericht|Der Preis für|Trotz der|„ Wir sind|Nur wenige|Auch in Deutschland|Bei einem Unfall|
Ein Sprecher der|Für die Bürger|Im Museum|Die Zahl der|Mit ihrem neuen Buch|Ob die|Der Verein|Zwei Männer|Der Film erzählt|Als er"""
FRENCH = "Le gouvernement a|Hier soir|La ville de|Les enfants|Selon une étude|Le président|Il est important de|Nous avons|L'entreprise|Depuis des années|Ma sœur|Dans ce pays"
SPANISH = "El gobierno ha|Ayer por la noche|La ciudad de|Los niños|Según un estudio|El presidente|Es importante|Hemos|La empresa|Desde hace años|Mi hermana|En este país"
ITALIAN = "Il governo ha|Ieri sera|La città di|I bambini|Secondo uno studio|Il presidente|È importante|Abbiamo|L'azienda|Da anni"
PORTUGUESE = "O governo|Ontem à noite|A cidade de|As crianças|De acordo com|O presidente|É importante|Nós temos|A empresa"
FOREIGN = [("German", GERMAN), ("German", GERMAN), ("German", GERMAN), ("German", GERMAN), ("French", FRENCH),
           ("Spanish", SPANISH), ("Italian", ITALIAN), ("Portuguese", PORTUGUESE)]
TRANSLATE = ["Translate {from} to English:", "Translate {from} to English:", "Translate {from} to English:",
             "Translate the following sentence from {from} into English:", "What does this {from} sentence mean in English?\n",
             "Translate into English:", "Please translate this {from} text to English:\n\n"]

# What articles and passages begin with: the target goes on for as long as it is made to.
ARTICLE = """(CNN) --|The {place_} of|A new report|Police in|LONDON --|On Tuesday,|The company announced|Scientists have|More than {n} people|
The team|After years of|It was the|{name} was only {n} years old when|Researchers at|The city council|An investigation into|Last week|
The government|A man from|The world's|For {n} years,|In the early hours of|{name}, a|The star|Two women|Thousands of|The Supreme Court|
A fire|The future of {topic}|Fans of|A former|The owner of {place}|Doctors|During the""".replace("{place_}", "mayor")
PASSAGE = """The city of|{name} (born 19{n2}) was|The history of {topic}|In the {n}th century,|The University of|It is one of the largest|
The first season of|The river|The species is|During the Second World War,|The film was released in|The term|The album|The capital of|
According to|The national team|Its population was|The novel tells|The company was founded in|The bridge|In mathematics,|The festival|
The battle of|The treaty|In biology,|The museum|The island""".replace("{n2}", "40")

SUMMARISE = ["Summarize: ", "Summarize: ", "Summarize: ", "Summarize the following article:\n\n", "Summarise this text in three sentences:\n\n",
             "Please give me a short summary of this article.\n\n", "TL;DR of the following:\n", "What are the main points of this text?\n\n"]
QUESTION_AFTER = ["\nWho", "\nWhat", "\nWhen", "\nWhere", "\nHow many", "\nHow", "\nWhy", "\nWhat is", "\nWhat was the", "\nWho is the",
                  "\nQuestion: What", "\n\nQuestion: Who", "\n\nAnswer this question from the text above:", "\nWhich",
                  "\nAccording to the passage,", "\nWhat does"]

# Kind: share of the turns, and openings. A kind with its own builder in `plan` has none here.
KINDS = {
    "free": (12, ["", "", "I", "Can you", "How", "Please", "My", "Is it", "Hi,", "Tell me", "Give me", "Explain", "Could you", "I need", "Why"]),
    "question": (12, """Who|Who is|Who was|Who plays|Who played|Who wrote|Who sang|Who won|Who invented|When|When was|When did|When does|
When is|Where|Where is|Where was|Where does|Where did|What|What is|What is the name of|What year|What does|What kind of|What was the|
What are the|What is the capital|How many|How much|How long|How old|How tall|How did|How far|Which|Which country|In which year|
Is there|Name the|What is the meaning of|who is the|what is the|when did the|where is the|how many|who sings|what type of|the|
What episode|Who has the most|What is the difference between|In what""".replace("\n", "").split("|")),
    "maths": (14, """{name} has {n} {thing}.|{name} buys {n} {thing} for ${n} each.|{name} and {name} share {n} {thing}.|There are {n} {thing} in|
{name} runs {n} miles|{name} earns ${n} an hour|A train travels|{place} sells {n} {thing}|A rectangle|If {n} workers|{name} read {n} pages|
{name} is {n} years old.|In a class of {n} students,|{name} wants to save ${n}|The price of|At {place}, {n}|{name} drives {n} miles|
{name} bakes {n} {thing}|A tank holds {n} litres|{name} gives {n} {thing} to|Each week {name}|{name} bought|{name} planted {n}|
Solve for x:|What is {n} +|Calculate|Find the|A farmer|Every day, {name}|{name}'s|On Monday, {name}|{n}% of|It takes {name} {n} minutes|
The sum of|A shop|Half of|{name} went to {place}|The area of|What is the probability|How many""".replace("\n", "").split("|")),
    "summarise": (13, []),
    "translate": (13, []),
    "passage": (13, []),
    "writing": (4, ["Write {text} about {topic}", "Write {text}", "Compose {text} about", "Draft {text} to", "Describe {place}",
                    "Help me write {text}", "Rewrite this sentence:", "Create {text} for {place}", "Write a paragraph about {topic}",
                    "Edit the following paragraph:", "Give me {n} ideas for {text} about {topic}"]),
    "role play": (3, ["Pretend to be {person}.", "You are {person}.", "Act as {person} and", "Imagine that you are {person}.",
                      "I want you to be {person}.", "Speak like {person}.", "As {person},", "Let us play: you are {person} and I am {person}."]),
    "reasoning": (4, ["If all", "{name} is taller than {name}.", "Suppose that", "Which word does not belong", "{name} is {name}'s",
                      "A man", "There are three", "What comes next", "Is it true that", "Think step by step:", "One morning, {name}",
                      "Read the statement and decide", "You have {n} {thing}.", "Can {place}", "Why would", "Which is heavier,"]),
    "coding": (4, ["Write a function in {language} that {task} {data}", "Write {language} code that {task} {data}", "Implement",
                   "What does this code do?\n\n```\n", "Fix the bug in this code:\n\n```python\n", "How do I {task_} in {language}",
                   "Write a program in {language}", "Explain how {data} work in {language}", "Write a unit test", "def"]),
    "extraction": (3, ["Extract all names and dates from this text:", "List the {data} in the following text:", "Give the answer as JSON:",
                       "Classify the sentiment of these reviews:\n1.", "From the following paragraph, extract", "Find the keywords in:",
                       "Make a table of", "Given the following data:", "Count how often", "Identify the people and places:",
                       "Rate these statements from 1 to 5:\n1."]),
    "stem": (3, ["Explain how {topic} works", "What happens when", "Describe the process of", "How does", "What is the chemical", "In physics,",
                 "Explain the difference between", "Why is the sky", "What are the stages of", "Derive", "How do cells", "Explain the concept of"]),
    "humanities": (3, ["Discuss the importance of {topic}", "Compare", "What were the causes of", "Explain the role of", "How did {topic} change",
                       "What did philosophers think about", "Analyse the", "Give an overview of {topic}", "What can we learn from {topic}?",
                       "Write about the culture of", "What are the arguments for and against {topic}"]),
}
FOLLOW_UP = ["", "Now", "Can you", "Make it shorter", "Thanks.", "Explain", "Why", "Rewrite", "What about", "Give an example", "And", "Are you sure",
             "Please", "Translate that into", "How", "Summarize", "In one sentence,", "Continue", "Add"]


@dataclass
class Turn:
    kind: str
    opening: str
    least: int = 0          # tokens that the target writes at least before it may end the turn
    most: int = 300         # and at most
    ending: str = ""        # text set in at the first end of a sentence after `ending_after` tokens
    ending_after: int = 0


def filled(text, rng):
    text = text.replace("{task_}", "{task}")
    return re.sub(r"\{(\w+)\}", lambda m: rng.choice(LISTS[m[1]]) if m[1] in LISTS else m[0], text)


def choice(text, rng):
    return filled(rng.choice(text.replace("\n", "").split("|")), rng)


def plan(rng, turns):
    """The user turns of one dialogue."""
    out = []
    for n in range(turns):
        if n and rng.random() < 0.35:
            out.append(Turn("follow-up", rng.choice(FOLLOW_UP)))
            continue
        kind = rng.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
        if kind == "summarise":
            long = rng.randint(80, 480)
            out.append(Turn(kind, rng.choice(SUMMARISE) + choice(ARTICLE, rng), long, long + 200))
        elif kind == "translate":
            language, starts = rng.choice(FOREIGN)
            instruction = rng.choice(TRANSLATE).replace("{from}", language)
            gap = "" if instruction.endswith("\n") else " "
            out.append(Turn(kind, instruction + gap + choice(starts, rng), 6, 90))
        elif kind == "passage":
            passage = choice(PASSAGE, rng)
            if rng.random() < 0.3:
                passage = rng.choice(["Read the passage and answer the question.\n\n", "Context: ", "Here is a text:\n\n"]) + passage
            out.append(Turn(kind, passage, 550, 700, rng.choice(QUESTION_AFTER), rng.randint(80, 500)))
        else:
            opening = filled(rng.choice(KINDS[kind][1]), rng)
            out.append(Turn(kind, opening, 8 if kind in ("maths", "coding", "extraction") else 2))
    return out


def plans(seed, rows, turns):
    rng = random.Random(seed)
    return [plan(rng, turns) for _ in range(rows)]
