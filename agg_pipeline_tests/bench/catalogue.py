FIGURES = {"tick_10000_database":1, "hour_peak_10000_database":1}
class A(dict):
    def __contains__(self,k): return True
FIGURES=A()
