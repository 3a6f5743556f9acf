"""Words of the synthetic shop: what topics, categories, titles, brands and shops are called."""

from __future__ import annotations

CHILDREN = "children"
AGES = 7
CHILD_KINDS = {
    "girls": "dress skirt tights blouse hairband unicorn",
    "boys": "dungarees jersey shorts cap dinosaur excavator",
    "toys": "puzzle blocks plush rattle crayons tricycle",
}
AGE_WORDS = ("newborn", "baby", "toddler", "nursery", "kindergarten", "preschool", "school")

# Topic: words of the topic, then its categories with theirs. Every ordinary topic has four categories.
TOPICS: dict[str, tuple[str, dict[str, str]]] = {
    "garden": (
        "outdoor lawn patio",
        {
            "pots": "planter terracotta urn saucer basket",
            "tools": "spade rake shears trowel hoe",
            "seeds": "tomato lavender basil sunflower bulbs",
            "furniture": "bench parasol lounger hammock gazebo",
        },
    ),
    "kitchen": (
        "cooking chef stove",
        {
            "pans": "skillet wok saucepan casserole griddle",
            "knives": "cleaver paring santoku sharpener block",
            "appliances": "blender kettle toaster mixer juicer",
            "storage": "jar canister tin lunchbox rack",
        },
    ),
    "cycling": (
        "bike rider road",
        {
            "wheels": "rim spoke tyre tube hub",
            "clothing": "bib gilet gloves overshoes windbreaker",
            "lights": "headlight reflector dynamo flasher beam",
            "components": "derailleur cassette chain saddle crank",
        },
    ),
    "fishing": (
        "angler lake river",
        {
            "rods": "spinning telescopic flyrod carp boatrod",
            "reels": "baitcaster spool drag centrepin multiplier",
            "lures": "spinner wobbler jig crankbait softbait",
            "gear": "wader net tacklebox creel gaff",
        },
    ),
    "photography": (
        "camera photo studio",
        {
            "lenses": "telephoto macro fisheye prime zoom",
            "tripods": "monopod ballhead gimbal clamp gorillapod",
            "lighting": "softbox strobe diffuser flashgun backdrop",
            "bags": "sling hardcase strap pouch holster",
        },
    ),
    "coffee": (
        "barista roast brew",
        {
            "beans": "arabica robusta espresso decaf blend",
            "machines": "portafilter moka percolator boiler frother",
            "cups": "mug demitasse tumbler thermos cappuccino",
            "grinders": "burr handmill doser hopper tamper",
        },
    ),
    "music": (
        "concert sound band",
        {
            "guitars": "fretboard pickup capo strings acoustic",
            "keyboards": "synthesizer piano midi pedal organ",
            "drums": "snare cymbal drumstick hihat tom",
            "vinyl": "turntable stylus record sleeve cartridge",
        },
    ),
    "running": (
        "jogger marathon track",
        {
            "shoes": "trainers spikes insole laces trail",
            "watches": "gps pulsemeter stopwatch footpod pacer",
            "apparel": "singlet leggings visor compression armband",
            "nutrition": "gel electrolyte isotonic bar flask",
        },
    ),
    "knitting": (
        "handmade stitch craft",
        {
            "yarn": "merino mohair alpaca cotton skein",
            "needles": "circular crochet bamboo doublepoint hook",
            "patterns": "cardigan shawl sweater booklet chart",
            "notions": "marker bobbin gauge button thimble",
        },
    ),
    "gaming": (
        "player console arcade",
        {
            "controllers": "gamepad joystick racingwheel thumbstick dongle",
            "headsets": "surround microphone earpad boom wireless",
            "games": "quest shooter strategy racing platformer",
            "seating": "chair footrest armrest recliner cushion",
        },
    ),
    "pets": (
        "dog cat paw",
        {
            "food": "kibble wetfood chew treat biscuit",
            "beds": "kennel crate blanket igloo mat",
            "leads": "collar harness leash tag muzzle",
            "playthings": "squeaker frisbee laser scratcher tunnel",
        },
    ),
    "camping": (
        "hike wild trek",
        {
            "tents": "dome tarp canopy peg groundsheet",
            "sleeping": "sleepingbag airbed liner pillow bivouac",
            "stoves": "burner gas mess cookset firelighter",
            "packs": "rucksack daypack raincover drybag carabiner",
        },
    ),
    "beauty": (
        "skin glow care",
        {
            "makeup": "lipstick mascara foundation blush eyeliner",
            "skincare": "serum moisturiser toner cleanser peeling",
            "hair": "shampoo conditioner curler straightener brush",
            "fragrance": "perfume cologne mist rollerball attar",
        },
    ),
    "diy": (
        "workshop builder repair",
        {
            "power": "drill sander jigsaw router grinder",
            "hand": "hammer screwdriver wrench pliers chisel",
            "paint": "primer roller varnish masking emulsion",
            "fixings": "screw anchor bolt washer nail",
        },
    ),
    "books": (
        "reader paperback edition",
        {
            "crime": "detective murder inspector thriller noir",
            "history": "empire revolution medieval biography dynasty",
            "fantasy": "dragon wizard kingdom sword prophecy",
            "poetry": "sonnet verse haiku anthology ballad",
        },
    ),
    "office": (
        "desk work business",
        {
            "paper": "notebook ledger envelope pad folder",
            "pens": "fountain ballpoint highlighter fineliner nib",
            "printers": "toner ink laserjet scanner drum",
            "organisers": "stapler tray binder calendar clip",
        },
    ),
    "fashion": (
        "style wear season",
        {
            "coats": "trench parka blazer anorak cape",
            "jewellery": "earring bracelet necklace brooch pendant",
            "handbags": "clutch tote satchel wallet purse",
            "footwear": "loafer sandal boot heel moccasin",
        },
    ),
    "cars": (
        "auto driver motor",
        {
            "cleaning": "wax polish chamois degreaser vacuum",
            "tyres": "alloy hubcap jack valve inflator",
            "electronics": "dashcam satnav charger amplifier subwoofer",
            "interior": "seatcover floormat sunshade airfreshener organiser",
        },
    ),
    "tea": (
        "infusion leaf steep",
        {
            "black": "assam darjeeling ceylon earlgrey keemun",
            "green": "sencha matcha gunpowder jasmine genmaicha",
            "herbal": "rooibos camomile peppermint hibiscus verbena",
            "teaware": "teapot infuser strainer caddy saucer",
        },
    ),
    "swimming": (
        "pool water swim",
        {
            "swimwear": "bikini trunks swimsuit rashguard jammer",
            "goggles": "antifog mirrored snorkel mask noseclip",
            "training": "kickboard fins pullbuoy paddles cap",
            "towels": "microfibre poncho robe hamam changing",
        },
    ),
    "christmas": (
        "festive holiday winter",
        {
            "trees": "fir spruce pine baubles tinsel",
            "fairy": "lights garland lantern candle star",
            "gifts": "wrapping ribbon hamper stocking card",
            "baking": "gingerbread stollen cutter marzipan icing",
        },
    ),
    "astronomy": (
        "sky night space",
        {
            "telescopes": "refractor dobsonian reflector aperture finder",
            "eyepieces": "barlow plossl filter wideangle diagonal",
            "mounts": "equatorial altazimuth counterweight pier tracker",
            "maps": "atlas planisphere moonmap almanac globe",
        },
    ),
    "yoga": (
        "balance stretch calm",
        {
            "mats": "cork rubber foldable nonslip towelling",
            "props": "bolster strap brick wheel wedge",
            "wear": "capri bralette wrap harem bodysuit",
            "meditation": "incense singingbowl zafu mala diffuser",
        },
    ),
}

NOISE_WORDS = tuple(
    word
    for words in (
        "new classic large small set of blue red white black green premium original mini deluxe",
        "with and for easy vintage modern soft light pack two gift box best quality pro plus style",
    )
    for word in words.split()
)

COUNTRIES = ("de", "fr", "us", "mx", "it", "jp", "in", "ca", "es", "uk")
_CONSONANTS, _VOWELS = "bcdfklmnprstvwxz", "aoiuaoiueaoiaeou"


def brand_name(number: int) -> str:
    """Pronounceable name that no other number below 4,096 has.

    >>> brand_name(0), brand_name(1), brand_name(300)
    ('Baba', 'Baco', 'Divaco')
    """
    first, second, third = number % 16, number // 16 % 16, number // 256
    syllables = [second, first, third] if third else [second, first]
    return "".join(_CONSONANTS[digit] + _VOWELS[digit] for digit in syllables).capitalize()


def topic_words(number: int) -> tuple[str, list[str], dict[str, list[str]]]:
    """Name, title words and categories (with their words) of topic ``number``; 0 is ``children``.

    Beyond the topics that have names the list begins again with a number behind every word, so that any
    number of topics can be had and no two share a word by accident.

    >>> topic_words(1)[0], topic_words(24)[0]
    ('garden', 'garden2')
    """
    if number == 0:
        return CHILDREN, ["kids", "child", "little"], _child_categories()
    names = list(TOPICS)
    lap, index = divmod(number - 1, len(names))
    suffix = str(lap + 1) if lap else ""
    words, categories = TOPICS[names[index]]
    return (
        names[index] + suffix,
        _numbered(words, suffix),
        {name: _numbered(text, suffix) for name, text in categories.items()},
    )


def _numbered(words: str, suffix: str) -> list[str]:
    return [word + suffix for word in words.split()]


def _child_categories() -> dict[str, list[str]]:
    return {
        f"{kind}-{age}": [*words.split(), AGE_WORDS[age], AGE_WORDS[age]]
        for kind, words in CHILD_KINDS.items()
        for age in range(AGES)
    }
