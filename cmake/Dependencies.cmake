# Every third-party package, as an interface target named beamline_ext_<name>. Which folder of common/ may link which
# is the table in docs/layers.md; tests/lint/layers.py holds the code to it.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(cppzmq REQUIRED)
find_package(Eigen3 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(hwy CONFIG REQUIRED)
find_package(muparser CONFIG REQUIRED)

# toml++: its CMake config is not packaged on Debian 12, its pkg-config file is.
find_package(tomlplusplus QUIET)
if(NOT tomlplusplus_FOUND)
  pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
  add_library(tomlplusplus::tomlplusplus ALIAS PkgConfig::tomlplusplus)
endif()

# msgpack-cxx is headers only; its config links a target whose name changed between releases, so it is found by header.
find_path(MSGPACK_INCLUDE_DIR msgpack.hpp REQUIRED)
add_library(beamline_ext_msgpack INTERFACE)
target_include_directories(beamline_ext_msgpack SYSTEM INTERFACE ${MSGPACK_INCLUDE_DIR})
target_compile_definitions(beamline_ext_msgpack INTERFACE MSGPACK_NO_BOOST)

add_library(beamline_ext_hdf5 INTERFACE)
target_include_directories(beamline_ext_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(beamline_ext_hdf5 INTERFACE ${HDF5_LIBRARIES})

# Eigen must not start threads of its own: the pool of base/ owns them.
add_library(beamline_ext_eigen INTERFACE)
target_link_libraries(beamline_ext_eigen INTERFACE Eigen3::Eigen)
target_compile_definitions(beamline_ext_eigen INTERFACE EIGEN_DONT_PARALLELIZE EIGEN_MPL2_ONLY)

# FastJet has no CMake config on Debian 12. Only programs that cluster load it: as-needed drops it from the others.
find_path(FASTJET_INCLUDE_DIR fastjet/ClusterSequence.hh)
find_library(FASTJET_LIBRARY fastjet)
if(NOT FASTJET_INCLUDE_DIR OR NOT FASTJET_LIBRARY)
  message(FATAL_ERROR "FastJet not found: install libfastjet-dev (make -f Makefile.workflow deps), or name its prefix in CMAKE_PREFIX_PATH")
endif()
add_library(beamline_ext_fastjet INTERFACE)
target_include_directories(beamline_ext_fastjet SYSTEM INTERFACE ${FASTJET_INCLUDE_DIR})
target_link_libraries(beamline_ext_fastjet INTERFACE ${FASTJET_LIBRARY})
target_link_options(beamline_ext_fastjet INTERFACE LINKER:--as-needed)

# oneDNN is optional. Debian's CMake config of it demands OpenCL, so header and library are looked up directly.
find_path(DNNL_INCLUDE_DIR dnnl.hpp)
find_library(DNNL_LIBRARY dnnl)
add_library(beamline_ext_dnnl INTERFACE)
if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
  target_include_directories(beamline_ext_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
  target_link_libraries(beamline_ext_dnnl INTERFACE ${DNNL_LIBRARY})
  target_compile_definitions(beamline_ext_dnnl INTERFACE BEAMLINE_HAVE_DNNL=1)
else()
  message(STATUS "oneDNN not found: matrix products run on Eigen (slower)")
endif()

# MPI is optional: with it bl-train also runs as several ranks (mpirun). Only its C interface is used.
option(BEAMLINE_MPI "Use MPI where it is found" ON)
add_library(beamline_ext_mpi INTERFACE)
if(BEAMLINE_MPI)
  find_package(MPI QUIET COMPONENTS C)
endif()
if(MPI_C_FOUND)
  target_link_libraries(beamline_ext_mpi INTERFACE MPI::MPI_C)
  target_compile_definitions(beamline_ext_mpi INTERFACE BEAMLINE_HAVE_MPI=1 OMPI_SKIP_MPICXX=1 MPICH_SKIP_MPICXX=1)
else()
  message(STATUS "MPI not found: training runs in one process")
endif()
