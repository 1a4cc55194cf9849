use partitura_broker::*;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
pub struct Batch(Vec<Delivery>, u32);
impl Batch { pub fn deliveries(&self)->&[Delivery]{&self.0} pub fn attempt(&self)->u32{self.1} }
#[derive(Debug)]
pub enum Outcome{Done,Settled,Retry(String),Dead(String),Lost}
impl Outcome{ pub fn retry(s:impl Into<String>)->Self{Self::Retry(s.into())} pub fn dead(s:impl Into<String>)->Self{Self::Dead(s.into())}}
pub trait Handler: Send+Sync+'static { fn handle(&self,b:Batch)->impl Future<Output=Outcome>+Send; fn released(&self,_:&[Partition]){} }
pub struct LaneOptions;
pub struct Lanes<H>{pub c: Box<dyn Consumer>, pub h: Arc<H>, pub batch: usize}
type K=(u32,Option<bytes::Bytes>,u64);
impl<H:Handler> Lanes<H>{ pub async fn run_until(mut self, f: impl Future+Send)->Result<()>{
    let mut lanes: HashMap<K,(VecDeque<Delivery>,bool,u32,bool)> = HashMap::new();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel::<(K,Vec<Delivery>,Outcome)>();
    let mut n=0u64; let mut running=0usize;
    tokio::pin!(f);
    let mut stop=false;
    loop {
        if stop && running==0 { break; }
        let mut kick: Vec<K>=vec![];
        tokio::select!{
            _=&mut f, if !stop => {stop=true;}
            e=self.c.next(), if !stop => match e { Err(e)=>{ if e.is_retryable(){continue} return Err(e)}, Ok(Event::Deliveries(ds))=>for d in ds { n+=1; let k=(d.partition.0,d.message.key.clone(), if d.message.key.is_some(){0}else{n}); lanes.entry(k.clone()).or_insert((VecDeque::new(),false,1,false)).0.push_back(d); kick.push(k);} , Ok(Event::Revoking{partitions,..})=>{self.h.released(&partitions); self.c.release(&partitions).await?; }, Ok(_)=>{} },
            Some((k,ds,o))=rx.recv()=>{ running-=1; 
               let l=lanes.get_mut(&k).unwrap(); l.1=false;
               match o { Outcome::Done=>{self.c.settle(&ds.iter().map(|d|d.token).collect::<Vec<_>>()); l.2=1; l.3=false},
                 Outcome::Settled=>{l.2=1;l.3=false}, Outcome::Lost=>{l.2=1;},
                 Outcome::Dead(r)=> if ds.len()>1 { l.3=true; for d in ds.into_iter().rev(){l.0.push_front(d);} } else {eprintln!("dead: {r}"); self.c.settle(&[ds[0].token]); l.2=1; l.3=false},
                 Outcome::Retry(_)=>{ let many=ds.len()>1; for d in ds.into_iter().rev(){l.0.push_front(d);} if many{l.3=true}else{l.2+=1; tokio::time::sleep(Duration::from_millis(10)).await;} } }
               kick.push(k);
            }
        }
        for k in kick { if let Some(l)=lanes.get_mut(&k) { if l.1 {continue} if l.0.is_empty(){ lanes.remove(&k); continue } if stop {continue}
            let m= if l.3||l.2>1 {1}else{self.batch}; let ds:Vec<_>=(0..m).filter_map(|_|l.0.pop_front()).collect(); l.1=true; running+=1; let h=self.h.clone(); let tx=tx.clone(); let at=l.2;
            tokio::spawn(async move { let o=h.handle(Batch(ds.clone(),at)).await; if std::env::var("FAKE").is_ok(){eprintln!("{:?} {:?}", ds.iter().map(|d|String::from_utf8_lossy(&d.message.payload).into_owned()).collect::<Vec<_>>(), o);} let _=tx.send((k,ds,o)); }); } }
    }
    self.c.flush().await?; self.c.close().await
} }
pub struct Source(TopicName, SubscriptionName, Ordering);
impl Source { pub fn new(a:TopicName,b:SubscriptionName,c:Ordering)->Self{Self(a,b,c)}
 pub fn dead_topic(&self)->Result<Option<TopicName>>{Ok(Some(TopicName::new(format!("{}.{}.dead",self.0,self.1))?))}
 pub fn declare_queue(&self,t:Topology,_:bool)->Result<Topology>{ let d=self.dead_topic()?.unwrap(); Ok(t.queue(self.0.clone(),self.2).subscription(self.1.clone(),[self.0.clone()]).queue(d.clone(),Ordering::ByKey{partitions:1}).subscription(SubscriptionName::new("admin")?,[d])) } }
pub struct Lanes2;
impl Lanes2 { pub async fn start<H:Handler>(b:&dyn Broker, s:&Source, batch:usize, h:H)->Result<Lanes<H>>{ let c=b.consumer(ConsumerOptions::new(s.1.clone(),[s.0.clone()])).await?; Ok(Lanes{c,h:Arc::new(h),batch}) } }
