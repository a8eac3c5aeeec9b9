"""Icons of the emoji sets whose names say too little, or something else, and the code points that they show."""

FIREFOX = dict(
    pair.split("=")
    for pair in """
    2hearts=1f495 acorn= americasglobe=1f30e anguish=1f627 anticlockwiseupwardsanddownwardsarrows=1f504 aok=1f44c
    arrowrightwardsdownwards=2935 arrowrightwardsupwards=2934 asiaaustraliaglobe=1f30f backwithleftwardsarrow=1f519
    ballotboldscriptx= ballotboxboldcheck= beachumbrella=1f3d6 bellcancellation=1f515 banknotedollar=1f4b5
    banknoteeuro=1f4b6 banknotepound=1f4b7 banknoteyen=1f4b4 blackdownpointingdoublearrow=23ec blackdroplet=
    blackhardshellfloppy= blackleftpointingarrow=25c0 blackleftpointingdoublearrow=23ea blackmissingsmiley=
    blackquestionmark=2753 blackrightpointingarrow=25b6 blackrightpointingdoublearrow=23e9 blackskullcrossbones=2620
    blackuppointingdoublearrow=23eb blackwaving=1f3f4 blonde=1f471 bolt=26a1 bookmarktab=1f4d1 bouquetofflowers=1f490
    bow=1f380 bowing=1f647 bride=1f470 bullhorn=1f4e2 bullhornwithsoundwaves= bunny=1f430 bunny-ears=1f46f
    bunnyside=1f407 cancellationx= cat=1f431 catside=1f408 cellphone=1f4f1 chartdownwardstrend=1f4c9
    chartupwardstrend=1f4c8 chartupwardstrendyen=1f4b9 chilipepper=1f336 chineseflag=1f1e8-1f1f3
    cjkunifiedideograph-a=1f22f cjkunifiedideograph-b=1f23a cjkunifiedideograph-c=1f232 cjkunifiedideograph-d=1f233
    cjkunifiedideograph-e=1f234 cjkunifiedideograph-f=1f235 cjkunifiedideograph-g=1f236 cjkunifiedideograph-h=1f237
    cjkunifiedideograph-i=1f21a cjkunifiedideograph-j=1f238 cjkunifiedideograph-k=1f239 clock12oclock=1f55b
    clock12thirty=1f567 clock1oclock=1f550 clock1thirty=1f55c clock2oclock=1f551 clock2thirty=1f55d clock3oclock=1f552
    clock3thirty=1f55e clock4oclock=1f553 clock4thirty=1f55f clock5thirty=1f560 clock6oclock=1f555 clock6thirty=1f561
    clock7oclock=1f556 clockwiserightwardsleftwardscirclearrows=1f501 clockwiserightwardsleftwardscirclearrowsone=1f502
    closedmailboxlowered=1f4ea closedmailboxraised=1f4eb confetti=1f38a construct=1f477 contact=1f464 contact2=1f465
    couple=1f491 crying=1f622 devilhorns=1f608 diamondshapewithdotinside=1f4a0 dissapointedrelief=1f625 dog=1f436
    dogside=1f415 doubleexclaimationmark=203c down=1f447 downpointingsmallredtrisngle=1f53d dragonhead=1f432
    dragonside=1f409 eightspokedasterix=2733 endwithleftwardsarrow=1f51a envelopedownarrowabove=1f4e9
    europeafricaglobe=1f30d evergreen=1f332 exclaimationquestionmark=2049 fallingleaf=1f342 faxicon= fishcakeswirl=1f365
    fistedhand=1f44a flexbicep=1f4aa floppydisk2=1f4be forkknife=1f37d franceflag=1f1eb-1f1f7 frontfacingchick=1f425
    frown=1f64d frownmouth=1f626 girlgirl=1f46d girlguy=1f46b gma=1f475 gpa=1f474 greatbritainflag=1f1ec-1f1e7
    grineyes=1f604 grinsquint=1f606 grinsweat=1f605 grintears=1f602 grinwide=1f600 grinwideeyes=1f603 guapimao=1f472
    guyguy=1f46c hampster=1f439 handheldvideocamera=1f4f9 hands=1f450 handup=1f64b headmassage=1f486 heartarrow=1f498
    heartgreen=1f49a heartpurple=1f49c heartyellow=1f49b heavyexclaimationmarksymbol=2757 heavylatincross=271d
    heavymultiplicationsymbol=2716 heels=1f460 high5=1f64c highspeedtrainbulletnose=1f685 index=261d
    italianflag=1f1ee-1f1f9 japaneseangrymask=1f47a japanflag=1f1ef-1f1f5 kissclosedeyes=1f61a kisseyes=1f619
    koreaflag=1f1f0-1f1f7 leaffluttering=1f343 left=1f448 leftangerbubble= leftmagnifyingglass=1f50d
    leftwritinghand=270d leopardside=1f406 lightningmood= lockandkey=1f510 loudlycrying=1f62d makeupbag=1f45d
    manltepiececlock=1f570 mansshirt=1f455 mensrunner=1f45f mensshoe=1f45e meridianglobe=1f310 monkeyhear=1f649
    monkeysee=1f648 monkeyspeak=1f64a mouse=1f42d mouseside=1f401 negativesquaredlatincaptiala=1f170
    negativesquaredlatincaptialb=1f171 negativesquaredlatincaptialo=1f17e nogesture=1f645 nooneunder18symbol=1f51e
    notebookdecorativecover=1f4d4 okgesture=1f646 onarrowleftright=1f51b onebuttonmouse= openmailboxlowered=1f4ed
    openmailboxraised=1f4ec outbox=1f4e4 perservere=1f623 phonerightarrowleft=1f4f2 pig=1f437 pigside=1f416
    pigsnout=1f43d pinkwallet=1f45b potablewatersystem=1f6b0 pout=1f64e pouting=1f621 present=1f381
    raisedhandpartfingers=1f596 raisedhandsfingerssplayed=1f590 reminder=1f397 reversehandmiddlefinger=1f595 right=1f449
    rightmagnifyingglass=1f50e rightspeaker= rightspeaker3soundwaves= rightspeechbubble= rightthoughtbubble=
    ringingbell= russianflag=1f1f7-1f1fa saggitarius=2650 sandals=1f461 screamfear=1f631 silhouetteohjapan=1f5fe
    sixpointedstarwithdot=1f52f sleuthspy=1f575 smallfrown=1f641 smallsmile=1f642 smileeyes=1f60a smiletongue=1f60b
    snowmountains=1f3d4 soonwithrightarrow=1f51c spanishflag=1f1ea-1f1f8 speaker3soundwaves=1f50a
    speakercancellation=1f507 speakerwith1soundwave=1f509 speechbubble=1f4ac spurtingwhale=1f433 squaredup=1f199
    stockchart= stormcloud=1f329 studiomic=1f399 sunraincloud=1f326 sunrays=2600 sweatsplash=1f4a6
    telephonereceiver2=1f4de tennisball=1f3be thoughtbaloon=1f4ad tiger=1f42f tigerside=1f405 tongueoutwink=1f61c
    topwithupwardsarrow=1f51d toykotower=1f5fc turban=1f473 up=1f446 uppointingsmallredtrisngle=1f53c videocasette=1f4fc
    waitress=1f481 waningbibbousmoon=1f316 wave=1f30a waving=1f44b whiteexclaimationmark=2755 whitelatincross=
    winking=1f609 womansshirt=1f45a
    """.split()
)
"""Names of FxEmoji."""
