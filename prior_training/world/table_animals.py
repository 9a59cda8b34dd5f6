# ruff: noqa: E501
"""Animals and figures in the language of `shapes`; faces look to +z. Units are arbitrary."""

import math

EARS = {
    "round": "ball ear:=/~ {a},{a},.05 @{x},{y},{z} m",
    "point": "cone ear:=/~ .12,.16,.06 @{x},{y},{z} z-15 m",
    "long": "ball ear:= .08,.34,.05 @{x},{far},{z} z-10 m",
    "hang": "ball ear:=/~ .07,.22,.12 @{wide},{low},{z} z12 m",
    "side": "ball ear:= .16,.07,.06 @{wide},{low},{z} z15 m",
    "big": "ball ear:=/~ .34,.4,.05 @{out},{low},{z} y-20 m",
}
TAILS = {
    "short": "ball tail:=/~ .1 @0,{ty},{tz}",
    "hang": "pill tail:=/~ .05,.3,.05 @0,{under},{tz} x25",
    "up": "pill tail:= .06,.36,.06 @0,{over},{tz} x-30",
    "bushy": "ball tail:= .13,.13,.38 @0,{over},{back} x35",
    "none": "",
}


def beast(
    coat: str,
    *,
    fat: float = 0.34,
    long: float = 0.6,
    leg: float = 0.3,
    thick: float = 0.11,
    neck: float = 0.15,
    lean: float = 0.5,
    head: str = ".28,.27,.28",
    snout: str = ".14,.12,.18",
    nose: str = "=/pink/white",
    ear: str = "point",
    tail: str = "hang",
    more: str = "",
) -> str:
    """Body, four legs, neck, head, snout, ears, tail. `more`: other parts, with the head's place as {hy} and {hz}."""
    wide, tall, deep = (float(each) for each in head.split(","))
    hy, hz = 0.4 * fat + neck + 0.5 * tall, 0.78 * long + lean * neck + 0.5 * deep
    rise, run = hy - 0.2 * fat, hz - 0.62 * long
    places = {
        "hy": hy, "hz": hz, "top": hy + tall, "front": hz + deep, "fat": fat, "long": long, "ny": hy - 0.22 * tall,
        "a": 0.4 * wide, "x": 0.66 * wide, "y": hy + 0.85 * tall, "z": hz - 0.1 * deep, "far": hy + tall + 0.22,
        "wide": 1.02 * wide, "low": hy + 0.1 * tall, "out": wide + 0.2, "ty": 0.4 * fat, "tz": -long - 0.03,
        "under": 0.3 * fat - 0.2, "over": 0.6 * fat + 0.2, "back": -long - 0.18, "leg": -0.625 * fat - 0.75 * leg,
    }  # fmt: skip
    parts = [
        f"ball body:{coat} {fat},{fat},{long}",
        f"pill leg:= {thick},{0.375 * fat + 0.75 * leg},{thick} @{0.6 * fat},{{leg}},{0.62 * long} q",
        f"pill neck:= {0.55 * wide},{0.5 * math.hypot(rise, run) + 0.1},{0.6 * wide} @0,{0.5 * (hy + 0.2 * fat)},"
        f"{0.5 * (hz + 0.62 * long)} x{math.degrees(math.atan2(run, rise)):.0f} s.08",
        f"ball head:face*= {head} @0,{{hy}},{{hz}} s.05",
        f"ball snout:{nose} {snout} @0,{{ny}},{hz + 0.85 * deep} s.03",
        *(each for each in (EARS.get(ear, ear), TAILS[tail], more) if each),
    ]
    return " | ".join(parts).format(**{name: f"{place:.3f}" for name, place in places.items()})


def figure(clothes: str, *, skin: str = "face*brown/pink/orange", leg: str = "_/=/black", more: str = "") -> str:
    """A standing person: body, legs, feet, arms, hands, head; `more`: hair, hats and what is held."""
    return (
        f"can body:{clothes} .3,.38,.2 c.7 t-.1 | pill leg:{leg} .13,.36,.13 @.15,-.62,0 m | ball foot:black/brown/_ "
        ".12,.09,.2 @.16,-.98,.06 m | pill arm:= .1,.32,.1 @.38,.02,0 z14~30 m s.02 | "
        f"ball head:{skin} .25,.27,.25 @0,.62,0 | {more}"
    )


# fmt: off
TABLE: dict[str, str] = {
    "teddy bear": "ball body:belly*brown/brown/orange/white/pink/blue/grey .62,.62,.53 | ball head:face*= .55,.49,.5 @0,.98,0 s.05 | ball ear:= .2,.2,.12 @.42,1.36,0 m | ball arm:= .36,.17,.18 @.78,.2,.12 z-50~20 m s.04"
    " | ball foot:= .25,.25,.33 @.4,-.54,.3 m s.03 | ball snout:^ .22,.17,.18 @0,.86,.46 | ball nose:black .09,.06,.06 @0,.94,.62",
    "snowman": "ball body:white .6 | ball :white .46 @0,.72,0 | ball head:face*white .36 @0,1.34,0 | cone nose:orange .09,.22,.09 @0,1.3,.52 x90 | can :black .32,.04,.32 @0,1.62,0 ?a | can hat:black/black/red .22,.22,.22 @0,1.84,0 ?a"
    " | can scarf:_/red .36,.09,.36 @0,1.06,0 r.08 ?.7 | pill arm:brown .04,.35,.04 @.7,.9,0 z-70~-40 m",
    "robot": "box body:label*_/grey .52,.55,.4 r.08 | box head:face*=/_ .4,.32,.35 @0,.92,0 r.07 | box arm:_/= .13,.4,.13 @.68,.12,0 z0~25 m r.05 | box leg:_/= .13,.33,.13 @.27,-.85,0 m r.05 | pill :grey/_ .03,.15,.03 @0,1.36,0 | ball antenna:_/red .1 @0,1.55,0",
    "duck": "ball body:yellow/yellow/white/brown/green .46,.4,.72 | ball head:face*=/=/_ .36 @0,.64,.42 s.1 | ball beak:orange/red/yellow .18,.06,.2 @0,.56,.88 | ball wing:~/=/_ .1,.24,.42 @.42,.1,-.1 z14 m | ball tail:= .2,.12,.25 @0,.25,-.72 x25~45",
    "penguin": "ball body:belly*black/black/blue/purple/grey .6,.85,.5 | ball head:face*= .44 @0,.74,.04 s.1 | ball face:white .3,.26,.2 @0,.68,.28 | ball eye:black .06 @.15,.8,.42 m | cone beak:orange/yellow .11,.2,.08 @0,.68,.56 x90"
    " | ball wing:= .09,.44,.2 @.62,.05,0 z15~35 m | ball foot:orange/yellow .2,.1,.3 @.28,-.8,.22 m | can scarf:_/red .5,.1,.5 @0,.42,.02 ?.4",
    "fish": "ball body:stripes*_/orange/blue/red .26,.4~.6,.85 | box tail:_/= .05,.34,.3 @0,0,-.95 x-90 t.7 r.04 | box fin:_/= .05,.22,.3 @0,.5,-.1 t-.5 r.03 | ball eye:white .06,.12,.12 @.19,.12,.55 m | ball :black .05,.06,.06 @.23,.12,.58 m | ball fin:_/= .18,.04,.13 @.3,-.12,.1 z-35 m",
    "dog": beast("fur*brown/brown/white/black/grey/orange", head=".3,.28,.28", snout=".15,.13,.24", ear="hang", tail="up", more="ball nose:black .06,.05,.05 @0,{hy},{front}"),
    "cat": beast("stripes*orange/grey/black/white", fat=0.3, head=".32,.28,.28", snout=".13,.09,.1", tail="up"),
    "pig": beast("fur*pink/pink/pink/brown/black", fat=0.45, leg=0.18, neck=0.05, snout=".15,.13,.14", nose="=/pink", tail="short"),
    "cow": beast("patches*white/white/brown/black", fat=0.42, long=0.72, leg=0.34, snout=".2,.15,.2", ear="side", more="cone horn:white/grey .06,.16,.06 @.2,{top},{hz} z-25 m"),
    "horse": beast("fur*brown/brown/white/black/grey", leg=0.46, long=0.66, neck=0.5, head=".18,.2,.28", snout=".13,.13,.24", nose="=", more="box mane:black/brown/white/_ .05,.3,.12 @0,.6,.56 x20"),
    "zebra": beast("stripes*white", leg=0.42, long=0.64, neck=0.42, head=".18,.2,.28", snout=".13,.13,.22", nose="black", more="box mane:black .05,.28,.1 @0,.56,.56 x20"),
    "unicorn": beast("white/white/pink/purple", leg=0.44, neck=0.45, head=".18,.2,.26", snout=".13,.13,.22", nose="=", more="cone horn:yellow/pink .06,.24,.06 @0,{top},{hz} x15 | box mane:pink/purple/blue .06,.3,.13 @0,.6,.52 x20"),
    "donkey": beast("grey/grey/brown", leg=0.36, neck=0.35, head=".2,.22,.28", snout=".15,.15,.24", nose="white/grey", ear="long"),
    "giraffe": beast("patches*yellow/yellow/orange", leg=0.62, thick=0.09, long=0.5, neck=1.1, lean=0.25, head=".15,.16,.24", snout=".11,.1,.18", nose="=", ear="side", more="pill horn:brown .03,.12,.03 @.07,{top},{hz} m"),
    "elephant": beast("grey/grey/grey/blue/pink", fat=0.5, long=0.66, leg=0.36, thick=0.18, head=".36,.38,.34", snout=".16,.2,.12", nose="=", ear="big", tail="hang", more="pill trunk:= .1,.4,.1 @0,{hy}-.4,{front}+.08 x-12 s.05 | cone :white .06,.2,.06 @.2,{hy}-.3,{front} x150 m"),
    "lion": beast("orange/orange/yellow/brown", fat=0.34, long=0.66, head=".27,.27,.24", snout=".15,.13,.16", nose="white/^", ear="round", tail="up", more="ball mane:brown/orange .44,.44,.2 @0,{hy},{hz}-.16"),
    "tiger": beast("stripes*orange/orange/white", long=0.7, head=".31,.28,.27", snout=".16,.13,.15", nose="white", ear="round", tail="up"),
    "bear": beast("brown/brown/black/white/grey", fat=0.48, long=0.62, leg=0.26, thick=0.17, neck=0.08, head=".33,.31,.3", snout=".16,.14,.2", nose="=/^", ear="round", tail="short"),
    "panda": beast("white", fat=0.46, long=0.56, leg=0.24, thick=0.17, neck=0.1, head=".36,.33,.3", snout=".15,.12,.14", nose="white", ear="ball ear:black .13,.13,.07 @{x},{y},{z} m", tail="short", more="ball band:black .47,.48,.18 @0,0,.3"),
    "fox": beast("orange/orange/red/grey", fat=0.27, long=0.56, head=".28,.24,.25", snout=".1,.09,.24", nose="white/black", tail="bushy"),
    "wolf": beast("grey/grey/white/black", fat=0.31, leg=0.38, head=".28,.26,.27", snout=".13,.11,.26", nose="=/white", tail="bushy"),
    "sheep": beast("white/white/white/black/grey", fat=0.46, long=0.58, leg=0.28, thick=0.09, head=".22,.25,.24", snout=".13,.12,.14", nose="black/=", ear="side", tail="short", more="ball := .3 @.24,.2,.25 q s.1"),
    "goat": beast("white/brown/grey/black", fat=0.3, leg=0.34, neck=0.3, head=".2,.22,.24", snout=".11,.12,.2", ear="side", tail="short", more="cone horn:brown/grey .07,.24,.07 @.1,{top}+.1,{hz}-.1 x-40 m | cone beard:white/~ .07,.13,.07 @0,{hy}-.32,{front} x180"),
    "deer": beast("brown/brown/orange", fat=0.28, leg=0.46, thick=0.08, neck=0.42, head=".18,.2,.24", snout=".1,.1,.18", ear="side", tail="short", more="pill horn:brown/white .03,.28,.03 @.16,{top}+.18,{hz} z-25 m | pill horn:brown/white .03,.13,.03 @.3,{top}+.22,{hz} z-70 m"),
    "rabbit": beast("white/grey/brown/pink", fat=0.36, long=0.46, leg=0.14, thick=0.13, neck=0.15, head=".29,.28,.27", snout=".12,.09,.1", ear="long", tail="short"),
    "mouse": beast("grey/grey/white/brown", fat=0.34, long=0.5, leg=0.08, thick=0.09, neck=0.0, head=".24,.22,.26", snout=".09,.08,.14", ear="ball ear:pink/= .2,.2,.04 @.22,{y}+.05,{hz} m", tail="none", more="pill tail:pink .035,.5,.035 @0,0,-.9 x75"),
    "camel": beast("orange/brown/yellow", fat=0.34, long=0.6, leg=0.5, neck=0.5, lean=0.9, head=".17,.17,.26", snout=".12,.11,.16", nose="=", ear="round", more="ball hump:= .22,.3,.24 @0,.38,.22 s.1 | ball hump:= .22,.3,.24 @0,.38,-.26 s.1"),
    "rhinoceros": beast("grey/grey/brown", fat=0.46, long=0.74, leg=0.24, thick=0.17, neck=0.0, head=".27,.26,.36", snout=".22,.18,.2", nose="=", ear="round", more="cone horn:white/^ .1,.28,.1 @0,{hy}+.25,{front}+.12 x15"),
    "hippopotamus": beast("grey/purple/pink/brown", fat=0.5, long=0.7, leg=0.18, thick=0.18, neck=0.0, head=".33,.3,.32", snout=".36,.25,.3", nose="=", ear="round", tail="short"),
    "crocodile": "ball body:green/green/brown .3,.22,.75 | box :=  .2,.08,.5 @0,.02,1 r.06 s.05 | box :^ .17,.06,.46 @0,-.12,.98 r.05"
    " | ball eye:white/yellow .08,.1,.08 @.14,.22,.62 m | cone tail:= .2,.7,.14 @0,0,-1.2 x-90 s.1"
    " | pill leg:= .1,.2,.1 @.32,-.22,.4 q | cone :~ .06,.1,.06 @0,.22,-.5 l4,0,0,.3",
    "dinosaur": "ball body:green/green/purple/orange/blue .34,.36,.5 x-15 | cone tail:= .26,.6,.26 @0,-.06,-.8 x-100 s.15 | pill leg:= .15,.36,.18"
    " @.22,-.5,-.05 m | ball foot:= .15,.08,.24 @.22,-.86,.06 m | pill neck:= .2,.4,.2 @0,.42,.4 x25 s.1 | ball head:face*= .25,.24,.3"
    " @0,.82,.55 s.05 | ball snout:= .19,.14,.26 @0,.76,.82 s.05 | pill arm:= .06,.15,.06 @.26,.1,.5 x60 m | cone :~/orange .06,.13,.05 @0,.37,-.35 l4,0,.02,.2",
    "dragon": "ball body:green/red/purple/blue .32,.34,.5 | cone tail:= .24,.6,.24 @0,0,-.85 x-95 s.15 | pill leg:= .12,.28,.14 @.22,-.38,.25 q"
    " | pill neck:= .16,.36,.16 @0,.4,.45 x25 s.1 | ball head:face*= .22,.2,.28 @0,.76,.62 s.05 | ball snout:= .15,.11,.22 @0,.7,.86 s.04"
    " | cone horn:white/yellow .06,.2,.06 @.12,.98,.48 x-25 m | star wing:~/orange/red .5,.45,.04 @.6,.5,-.05 z-30 y15 n3 m",
    "monkey": "ball body:brown/brown/black/grey .32,.4,.28 | ball head:face*= .3 @0,.62,.05 | ball face:orange/pink/^ .2,.16,.14 @0,.55,.24"
    " | ball ear:orange/pink/^ .12,.12,.05 @.34,.64,.04 m | pill arm:= .09,.4,.09 @.42,-.04,.06 z22 m s.03 | pill leg:= .1,.26,.1 @.2,-.5,.1 m"
    " | ball foot:~ .11,.07,.18 @.2,-.75,.16 m | pill tail:= .05,.45,.05 @.1,.0,-.4 x-35",
    "frog": "ball body:green/green/green/brown/blue .5,.38,.5 | ball head:= .42,.3,.38 @0,.22,.38 s.1 | ball eye:white .14 @.24,.5,.5 m | ball :black .07"
    " @.26,.53,.61 m | pill leg:= .14,.3,.14 @.5,-.2,-.2 z35 x20 m s.04 | ball foot:= .2,.06,.26 @.55,-.4,.1 m"
    " | pill arm:= .09,.22,.09 @.34,-.24,.5 z12 m s.04 | ball belly:^/white .36,.28,.3 @0,-.1,.28",
    "turtle": "ball body:patches*green/brown .6,.42,.7 | -box :~ 1,.4,1 @0,-.5,0 | ball :^/yellow .56,.1,.64 @0,-.1,0 | ball head:face*green/yellow/= .2,.19,.24"
    " @0,.12,.86 | ball leg:green/yellow/= .16,.12,.26 @.5,-.16,.42 y35 q | cone tail:green/= .08,.14,.08 @0,-.1,-.8 x-90",
    "snail": "ball body:brown/orange/red/pink .2,.48,.48 @0,.18,-.15 | ball :~ .23,.3,.3 @0,.2,-.12 | ball :^ .25,.14,.14 @0,.2,-.1"
    " | ball foot:yellow/grey/^ .2,.15,.85 @0,-.3,.1 | ball head:face*yellow/grey/^ .17,.22,.17 @0,-.12,.75 s.1 | pill eye:black/= .03,.2,.03 @.09,.16,.82 x15 z-12 m",
    "snake": "ring body:stripes*green/green/brown/red .5,.5,.14 x90 | ring :stripes*= .34,.34,.13 @0,.22,0 x90 | pill neck:= .12,.32,.12 @.12,.42,.28 x20 s.06"
    " | ball head:face*= .19,.13,.24 @.12,.74,.44 | box :red .03,.01,.12 @.12,.7,.7 | cone tail:= .1,.3,.1 @-.6,.0,-.2 x-80 s.05",
    "crab": "ball body:red/red/orange/blue .6,.3,.42 | pill leg:= .05,.28,.05 @.66,-.14,.0 z55 m | pill leg:= .05,.28,.05 @.6,-.14,.26 z55 y-25 m"
    " | pill leg:= .05,.28,.05 @.6,-.14,-.26 z55 y25 m | pill arm:= .08,.2,.08 @.52,.06,.45 x70 z-30 m | ball claw:= .2,.14,.24 @.64,.14,.74 m"
    " | pill :white/= .04,.12,.04 @.16,.3,.3 m | ball eye:black .08 @.16,.44,.32 m",
    "octopus": "ball body:face*purple/red/orange/pink/blue .48,.55,.48 @0,.35,0 | pill leg:= .11,.34,.11 @.34,-.26,0 z38 o7 s.08 | ball foot:= .11,.09,.11 @.58,-.5,0 o7 s.05",
    "whale": "ball body:belly*blue/blue/grey/black .46,.42,.8 | cone tail:= .26,.35,.22 @0,.08,-.85 x-75 s.15 | ball tail:= .26,.05,.16 @.2,.24,-1.12 y-25 m s.05"
    " | ball fin:= .3,.05,.16 @.52,-.16,.2 z-25 y-20 m | ball eye:white .06 @.38,.02,.48 m | ball eye:black .04 @.42,.02,.51 m | lathe :^/blue .1,.14,.1 @0,.5,.1 p224679",
    "dolphin": "ball body:grey/grey/blue .26,.3,.8 x-8 | ball belly:white/^ .2,.2,.62 @0,-.12,.08 | ball snout:= .09,.08,.26 @0,.02,.9 s.08 | cone fin:= .06,.18,.16 @0,.36,-.05 x-20"
    " | ball fin:= .26,.04,.13 @.3,-.14,.25 z-30 y-20 m | ball tail:= .26,.04,.15 @.18,-.12,-.86 y-35 m | ball eye:black .04 @.2,.1,.6 m",
    "shark": "ball body:grey/grey/blue .28,.3,.9 | ball belly:white .24,.2,.74 @0,-.12,.04 | cone fin:= .06,.26,.2 @0,.4,0 x-20 | ball fin:= .34,.04,.14 @.36,-.1,.2 z-20 y-30 m"
    " | box tail:= .05,.36,.12 @0,.2,-.98 x-25 r.04 | box tail:= .05,.2,.1 @0,-.14,-.96 x30 r.04 | ball eye:black .05 @.2,.1,.6 m | box :white .16,.03,.05 @0,-.12,.76 r.02",
    "seal": "ball body:grey/grey/black/brown .34,.32,.7 x-14 | ball head:face*= .25,.25,.25 @0,.42,.6 s.15 | ball snout:^/= .13,.1,.12 @0,.36,.82 | ball nose:black .05 @0,.4,.93"
    " | ball fin:~/= .28,.05,.15 @.38,-.24,.3 z-35 m | ball tail:~/= .2,.05,.2 @.14,-.2,-.8 y-25 m",
    "butterfly": "pill body:black/brown/_ .07,.34,.07 | star wing:spots*_ .4,.46,.03 @.42,.24,0 z-30 n5 i.9 m | ball wing:_/= .28,.28,.03 @.34,-.26,0 m"
    " | ball head:black/= .09 @0,.4,0 | pill antenna:black .015,.18,.015 @.09,.6,0 z-25 m",
    "bee": "ball body:stripes*yellow .3,.3,.45 | ball head:face*black/yellow .22 @0,.06,.52 | ball wing:white/^ .3,.05,.2 @.34,.36,0 z30 m | cone :black .05,.12,.05 @0,0,-.5 x-90"
    " | pill antenna:black .02,.14,.02 @.09,.3,.58 x15 z-20 m | pill leg:black .03,.12,.03 @.16,-.32,.15 q",
    "ladybug": "ball body:spots*red/red/orange/yellow .5,.36,.56 | -box :black 1,.4,1 @0,-.46,0 | ball head:black .25,.2,.2 @0,.02,.5 | ball eye:white .06 @.13,.1,.66 m"
    " | box :black .012,.37,.5 @0,.02,-.02 | pill antenna:black .02,.12,.02 @.1,.22,.62 z-20 m | pill leg:black .04,.14,.04 @.5,-.1,.3 z60 q",
    "spider": "ball body:black/black/brown/purple .36,.32,.42 @0,.1,-.25 | ball head:= .22,.2,.22 @0,.02,.26 | ball eye:white/red .06 @.09,.12,.44 m"
    " | pill leg:= .035,.32,.035 @.5,.16,.0 z-55 y30 q | pill leg:= .03,.3,.03 @.85,.0,.26 z25 y-30 q",
    "bat": "ball body:black/brown/purple .2,.28,.18 | ball head:face*= .19 @0,.38,.05 | cone ear:= .09,.18,.05 @.12,.6,.03 z-10 m | star wing:=/~ .5,.38,.03 @.55,.1,-.05 z12 n3 m | ball foot:~ .06 @.08,-.3,.05 m",
    "caterpillar": "ball body:green/green/yellow .2 @0,0,-.75 l5,0,0,.3 s.02 | ball :_/= .17 @0,.02,-.6 l4,0,0,.3 | ball head:face*=/red/yellow .27 @0,.14,.75 | pill antenna:black/_ .02,.14,.02 @.1,.46,.78 z-20 m",
    "jellyfish": "ball body:pink/purple/blue/turquoise .52,.45,.52 @0,.3,0 | -box :^ 1,.4,1 @0,-.25,0 | pill leg:^/= .05,.4,.05 @.3,-.1,0 z6 o6 | pill :=/_ .08,.3,.08 @0,.0,0",
    "owl": "ball body:belly*brown/brown/grey/white .4,.5,.36 | ball head:= .36,.31,.33 @0,.52,.03 s.08 | ball eye:white/yellow .15,.15,.07 @.15,.56,.3 m | ball :black .07,.07,.05 @.15,.56,.36 m"
    " | cone beak:orange/yellow .06,.1,.06 @0,.44,.37 x150 | cone ear:= .09,.12,.06 @.22,.82,.05 z-20 m | ball wing:~/= .1,.36,.24 @.39,.0,-.03 m | ball foot:orange .12,.06,.16 @.15,-.5,.12 m",
    "chicken": "ball body:white/white/brown/orange .34,.36,.48 x-15 | ball head:= .19,.22,.19 @0,.52,.36 s.15 | cone beak:orange/yellow .07,.12,.07 @0,.5,.58 x90 | ball :red .05,.12,.16 @0,.74,.34"
    " | ball :red .05,.09,.05 @0,.36,.52 | ball wing:~/= .09,.22,.3 @.33,.02,-.02 m | ball tail:= .08,.28,.2 @0,.3,-.48 x-30 | can leg:orange/yellow .04,.18,.04 @.14,-.45,.04 m",
    "bird": "ball body:blue/red/yellow/brown/_ .28,.28,.46 x-20 | ball head:face*= .22 @0,.34,.34 s.08 | cone beak:orange/yellow/black .06,.12,.06 @0,.3,.58 x90 | ball wing:~/_ .07,.18,.38 @.27,.04,-.08 x-15 m"
    " | box tail:~/= .14,.03,.26 @0,-.06,-.6 x-10 r.02 | can leg:orange/black .025,.14,.025 @.1,-.38,.02 m",
    "parrot": "ball body:red/green/blue/yellow .28,.42,.28 x15 | ball head:face*= .27,.26,.27 @0,.48,.14 s.06 | cone beak:black/yellow/grey .12,.18,.12 @0,.42,.42 x130 | ball face:white .16,.13,.1 @0,.5,.34 | ball wing:blue/yellow/green .1,.34,.2 @.27,.02,-.04 x15 m"
    " | box tail:blue/red/yellow .13,.34,.04 @0,-.62,-.2 x15 r.03 | ball foot:grey .1,.07,.12 @.12,-.38,.14 m | pill :brown .06,.5,.06 @0,-.46,.14 z90 ?a | cone :yellow/= .06,.16,.06 @0,.8,.06 x-20 ?.6",
    "swan": "ball body:white/white/white/black .34,.3,.56 | pill neck:= .09,.42,.09 @0,.5,.42 x8 s.1 | ball head:= .14,.13,.18 @0,.94,.54 s.05 | cone beak:orange/red .06,.13,.05 @0,.9,.78 x95"
    " | ball wing:= .1,.24,.44 @.31,.12,-.1 x12 m | cone tail:= .16,.2,.1 @0,.12,-.6 x-65 | ball eye:black .03 @.11,.97,.62 m",
    "flamingo": "ball body:pink/pink/pink/red .27,.26,.42 | pill neck:= .06,.42,.06 @0,.46,.36 x-2 s.08 | ball head:= .11,.1,.15 @0,.9,.4 s.04 | cone beak:black/white .05,.13,.05 @0,.82,.58 x125"
    " | can leg:= .03,.5,.03 @.1,-.66,0 m | ball foot:=/~ .09,.03,.14 @.1,-1.15,.06 m | ball wing:= .07,.17,.34 @.25,.04,-.06 m | cone tail:= .12,.16,.07 @0,.04,-.46 x-80",
    "hedgehog": "ball body:brown/brown/grey .44,.4,.5 | cone :~ .05,.14,.05 @.16,.38,-.1 q x-20 z-15 | cone :~ .05,.14,.05 @.34,.24,-.12 x-20 z-50 q "
    " | ball head:face*orange/pink/^ .26,.24,.26 @0,-.04,.44 | cone snout:orange/pink/^ .14,.2,.14 @0,-.08,.7 x90 | ball nose:black .06 @0,-.08,.9 | ball foot:orange/pink/^ .1,.07,.14 @.22,-.38,.26 q",
    "squirrel": "ball body:belly*orange/brown/grey/red .26,.36,.26 | ball head:face*= .24,.23,.25 @0,.46,.1 | ball snout:^ .1,.08,.12 @0,.4,.3 | cone ear:= .08,.14,.05 @.13,.7,.06 m | ball tail:= .17,.5,.2 @0,.22,-.42 x8"
    " | pill arm:= .06,.15,.06 @.2,.1,.22 x60 m | ball leg:= .13,.17,.22 @.22,-.24,.08 m | ball :brown .1,.12,.1 @0,.1,.36",
    "man": figure("_", more="ball hair:black/brown/yellow/grey .27,.2,.26 @0,.76,-.05 | ball hand:orange/pink/brown .09 @.47,-.3,0 m"),
    "woman": figure("_", more="ball hair:black/brown/yellow/red .29,.34,.22 @0,.62,-.12 | cone :=/_ .42,.36,.34 @0,-.5,0 | ball hand:orange/pink/brown .09 @.47,-.3,0 m"),
    "baby": "ball body:_ .34,.34,.3 | ball head:face*pink/orange/brown .38,.36,.36 @0,.6,.02 | ball arm:= .12,.22,.12 @.36,.08,.1 z35 m | ball leg:= .14,.14,.26 @.2,-.3,.26 y20 m | ball hair:brown/yellow/black .2,.1,.2 @0,.92,-.02",
    "astronaut": figure("white/white/orange/grey", skin="white", leg="=", more="ball face:black/blue/orange .2,.19,.14 @0,.62,.16 | box :grey/white .26,.34,.13 @0,.1,-.3 r.06 | box :red/blue/grey .12,.09,.04 @0,.1,.2"),
    "knight": figure("grey", skin="grey", leg="=", more="box face:black .18,.04,.06 @0,.64,.22 | ball feather:red/blue/_ .06,.2,.18 @0,.98,-.06 | pill sword:white/grey .04,.5,.04 @.56,.1,.12 | box shield:_ .05,.26,.2 @-.52,-.06,.12 y-30 r.03"),
    "king": figure("red/purple/blue", more="can hat:yellow .24,.09,.24 @0,.9,0 | cone hat:yellow .07,.13,.07 @.18,1.04,0 o5 | ball beard:white/grey/brown .2,.2,.14 @0,.42,.14 | cone :=/~ .42,.5,.36 @0,-.5,0"),
    "wizard": figure("blue/purple/black", more="cone :=/= .42,.52,.4 @0,-.5,0 | cone hat:=/~ .26,.42,.26 @0,1.12,0 | can brim:=/~ .36,.03,.36 @0,.78,0 | cone beard:white/grey .2,.3,.12 @0,.28,.2 x180 | pill staff:brown .04,.9,.04 @.58,-.1,.14 | ball :_ .11 @.58,.86,.14"),
    "gnome": "can body:_ .38,.34,.34 t-.2 | ball head:face*orange/pink .27,.25,.26 @0,.48,0 | cone hat:red/red/green/blue .31,.5,.31 @0,1.02,0 | cone beard:white .27,.34,.14 @0,.22,.24 x180 | pill arm:= .11,.26,.11 @.44,.04,.04 z18 m | ball foot:black/brown .18,.12,.26 @.18,-.42,.1 m | ball nose:pink/red .07 @0,.46,.27",
    "ghost": "lathe body:face*white/white/white/blue .48,.7,.44 p999985 | ball :=  .35,.3,.33 @0,.62,0 s.1 | ball eye:black .09,.13,.08 @.17,.45,.34 m | ball :black .08,.11,.07 @0,.18,.42 | ball arm:= .13,.2,.12 @.5,.12,.08 z40 m s.05 | -ball :~ .14,.16,.2 @.38,-.72,0 o6",
    "alien": "ball head:green/green/grey/purple .4,.42,.34 @0,.6,0 | cone body:= .26,.42,.22 @0,-.1,0 s.1 | ball eye:black .14,.19,.08 @.17,.6,.29 z20 m | pill arm:= .06,.3,.06 @.3,-.06,.04 z22 m | pill leg:= .08,.24,.08 @.12,-.62,0 m | ball foot:= .1,.06,.16 @.12,-.86,.05 m | pill antenna:= .02,.18,.02 @.14,1.06,0 z-15 m | ball :_ .07 @.19,1.24,0 m",
    "angel": figure("white/white/pink/blue", more="cone :=/= .44,.52,.38 @0,-.5,0 | ring :yellow .2,.2,.04 @0,1.06,0 x90 | ball wing:white .36,.4,.06 @.42,.22,-.26 z-30 y20 m | ball hair:yellow/brown/black .27,.24,.24 @0,.72,-.08"),
    "doll": "cone body:_ .44,.44,.4 @0,-.16,0 | ball head:face*pink/orange/brown .32,.3,.3 @0,.56,0 | ball hair:yellow/red/brown/black .35,.3,.28 @0,.66,-.1 | ball hair:yellow/red/brown/black .12,.2,.12 @.38,.5,-.04 m | ball bow:_ .12,.1,.07 @.14,.92,.06 m | pill arm:pink/orange/= .08,.26,.08 @.34,.06,.04 z30 m | pill leg:white/pink/= .09,.26,.09 @.14,-.7,0 m | ball foot:black/red/_ .11,.08,.16 @.14,-.92,.05 m",
    "scarecrow": figure("patches*_", skin="face*yellow/orange/brown", leg="brown/blue", more="cone hat:brown/yellow .27,.26,.27 @0,.98,0 | can brim:brown/yellow .42,.03,.42 @0,.8,0 | box :brown .85,.05,.05 @0,.26,-.12 | ball hand:yellow .1 @.82,.26,-.1 m"),
}
"""The nouns and their parts."""
