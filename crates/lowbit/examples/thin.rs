//! Scratch.
use lowbit::*;
use std::time::Instant;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let a: Vec<String> = std::env::args().collect();
    // model data rule wrule calib scale mean std resize
    let data = Dataset::open(&a[2])?;
    let nums = |s: &str| s.split(',').map(|x| x.parse::<f32>().unwrap()).collect::<Vec<_>>();
    let mut pre = Preprocess { scale: a[6].parse()?, mean: nums(&a[7]), std: nums(&a[8]), ..Preprocess::default() };
    if a.len() > 9 && a[9] != "-" { let r: Vec<usize> = a[9].split('x').map(|x| x.parse().unwrap()).collect(); pre.resize = Some(Resize::Exact { width: r[0], height: r[1] }); }
    if a.len() > 10 && a[10]=="nhwcbgr" { pre.layout = Layout::Nhwc; pre.channels = Channels::Bgr; }
    let n: usize = a[5].parse()?;
    let (calib, eval) = if data.splits().contains(&Split::Train) { (data.split(Split::Train)?.first(n), data.split(Split::Test)?) } else { let all = data.split(Split::All)?; (all.range(0..n)?, all.range(n..all.len())?) };
    let calib = Images::new(calib, &pre); let eval = Images::new(eval, &pre);
    let t = Instant::now();
    let float = Float::load(&a[1], Some(calib.shape()?))?;
    eprintln!("load {:?}", t.elapsed());
    let t = Instant::now();
    let rule = RangeRule::parse(&a[3])?; let weights = WeightRule::parse(&a[4])?;
    let recipe = Recipe { activations: rule, weights, bias_correction: std::env::var("NOBC").is_err(), channel_scales: std::env::var("NOCH").is_err() };
    let c = float.calibrate(&calib, &recipe, &|_| {})?;
    eprintln!("calibrate {:?}", t.elapsed());
    let t = Instant::now();
    let q = c.quantize(&calib, &|_| {})?;
    eprintln!("quantize {:?}", t.elapsed());
    for p in &q.placements { if let lowbit_graph::passes::Runs::Float(r) = &p.runs { eprintln!("float: {} {} {r}", p.op, p.node); } }
    if let Ok(path) = std::env::var("OUT") { q.export(path.as_ref())?; }
    if std::env::var("ERR").is_ok() {
        let sub = Images::new(calib.subset().first(64), &pre);
        for e in q.layer_errors(&sub, &|_| {})? { println!("{:40} {:.2} dB cos {:.5} shift {:.4}", q.float.model.graph.value_name(e.value), e.sqnr_db, e.cosine, e.mean_shift.iter().map(|x| x.abs()).fold(0.0, f64::max)); }
    }
    let t = Instant::now();
    let (f, i) = (Runner::new(&q.float.model.graph)?, Runner::new(&q.integer)?);
    let o = evaluate(&[&f], &eval, &|_| {})?;
    eprintln!("float eval {:?}", t.elapsed());
    let t = Instant::now();
    let p = evaluate(&[&i], &eval, &|_| {})?;
    eprintln!("int eval {:?}", t.elapsed());
    let acc = |o: &[Outcome]| 100.0 * o.iter().filter(|x| x.correct1 == Some(true)).count() as f64 / o.len() as f64;
    let agree = o[0].iter().zip(&p[0]).filter(|(a, b)| a.top1 == b.top1).count();
    println!("{} {} {}: float {:.3} int {:.3} drop {:.3} agree {:.3}", a[1], a[3], a[4], acc(&o[0]), acc(&p[0]), acc(&o[0]) - acc(&p[0]), 100.0 * agree as f64 / o[0].len() as f64);
    Ok(())
}
